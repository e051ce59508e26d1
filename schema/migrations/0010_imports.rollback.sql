DROP TABLE import_aliases;
DROP TABLE import_progress;
