-- shared/addresses.py in SQL, rule by rule: both read digits and nothing else, so they can't come to differ by a release
-- of a library. What the two made different people of is joined in 0022.

SET LOCAL lock_timeout = '100ms';

CREATE OR REPLACE FUNCTION canonical_phone(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    dialled text := substring(given FROM
        E'(?i)^[ \t\n\r\f\v\u00a0]*(?:(?:whatsapp|tel|sms|rcs):[ \t\n\r\f\v\u00a0]*)?([+]?[0-9 ().-]*[0-9().-])[ \t\n\r\f\v\u00a0]*$');
    digits text := regexp_replace(dialled, '[^0-9]', '', 'g');
BEGIN
    IF dialled IS NULL OR length(given) > 64 OR length(digits) NOT BETWEEN 3 AND 16 THEN
        RETURN NULL;
    ELSIF length(digits) <= 6 AND left(dialled, 1) <> '+' THEN
        RETURN digits;  -- a short code
    END IF;
    digits := regexp_replace(digits,
        '^(20|27|31|32|33|40|41|43|44|46|49|51|53|54|55|57|58|60|61|63|64|66|84|86|90|91|92|93|94|95|98|211|212|213|218|231'
        '|232|233|234|243|249|251|252|254|255|256|260|261|262|263|264|265|291|353|355|358|370|373|374|377|380|381|382|383'
        '|385|386|387|389|421|423|508|590|591|593|594|595|596|686|850|855|856|880|886|961|962|963|964|966|967|970|971|972'
        '|976|977|994|995|996)0([1-9][0-9]*)$',
        '\1\2');
    digits := CASE
        WHEN digits ~ '^11[2-9][0-9]{9}$' THEN right(digits, 11)
        WHEN digits ~ '^78[0-9]{10}$' THEN '7' || right(digits, 10)
        WHEN digits ~ '^521[1-9][0-9]{9}$' THEN '52' || right(digits, 10)
        WHEN digits ~ '^549[1-9][0-9]{9}$' THEN '54' || right(digits, 10)
        WHEN digits ~ '^541115[0-9]{8}$' THEN '5411' || right(digits, 8)
        WHEN digits ~ ('^54(22[01]|223|23[067]|249|26[01346]|280|29[14789]|336|34[1-358]|35[138]|36[24]|37[069]'
                '|38[013578])15[0-9]{7}$')
            THEN left(digits, 5) || right(digits, 7)
        WHEN digits ~ '^54[23][0-9]{3}15[0-9]{6}$' THEN left(digits, 6) || right(digits, 6)
        WHEN digits ~ '^55[1-9][1-9]([689][0-9]|7[1-6])[0-9]{6}$' THEN left(digits, 4) || '9' || right(digits, 8)
        ELSE digits END;
    RETURN CASE WHEN length(digits) <= 15 THEN '+' || digits END;
END
$$;
