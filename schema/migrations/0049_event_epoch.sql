-- Which history the order of events belongs to. A snapshot of the disk that is brought back has the same system, database
-- and timeline as what it replaces, and transactions with the same numbers: only this tells the two apart. `palomar
-- restore` and `failover` write another value.
CREATE TABLE event_epoch (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    epoch uuid NOT NULL DEFAULT gen_random_uuid()
);
INSERT INTO event_epoch DEFAULT VALUES;
GRANT SELECT ON event_epoch TO palomar_api, palomar_worker;
GRANT UPDATE (epoch) ON event_epoch TO palomar_worker;
