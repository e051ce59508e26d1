-- The roles stay: other databases of the cluster may use them, and they hold nothing by themselves.

REVOKE USAGE ON SCHEMA public FROM palomar_api, palomar_worker;
