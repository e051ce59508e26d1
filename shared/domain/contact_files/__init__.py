"""Files of contacts: reads CSV and NDJSON row by row, and decides what each row makes of the contacts. No I/O."""
