DROP TABLE event_epoch;
