DROP TRIGGER IF EXISTS consents_opt_out ON consents;
DROP FUNCTION IF EXISTS note_opt_out();
DROP TABLE IF EXISTS campaign_answers;
DROP TABLE IF EXISTS messaging_uses;
ALTER TABLE campaigns DROP COLUMN IF EXISTS looks;
