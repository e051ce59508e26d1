SET LOCAL lock_timeout = '100ms';

CREATE OR REPLACE FUNCTION canonical_phone(given text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    dialled text := regexp_replace(given, '^\s*(whatsapp|tel|sms|rcs):\s*', '', 'i');
    digits text := regexp_replace(dialled, '[^0-9]', '', 'g');
BEGIN
    IF dialled !~ '^\s*\+?[0-9 ().-]+$' OR length(digits) NOT BETWEEN 3 AND 15 THEN
        RETURN NULL;
    ELSIF length(digits) <= 6 AND dialled !~ '^\s*\+' THEN
        RETURN digits;  -- a short code
    ELSIF digits ~ '^521[0-9]{10}$' THEN
        RETURN '+52' || right(digits, 10);
    ELSIF digits ~ '^549[0-9]{10}$' THEN
        RETURN '+54' || right(digits, 10);
    ELSIF digits ~ '^55[1-9][0-9][6-9][0-9]{7}$' AND substr(digits, 5, 2) NOT IN ('70', '77', '78', '79') THEN
        RETURN '+' || left(digits, 4) || '9' || right(digits, 8);
    END IF;
    RETURN '+' || digits;
END
$$;
