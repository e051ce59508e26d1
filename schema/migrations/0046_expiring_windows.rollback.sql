DROP TABLE IF EXISTS expiring_windows;
