"""Events → deliveries to the systems of tenants, signed, tried again for days, logged.

`matching` makes a delivery of each event for each webhook that wants it. Where its process has room, it goes straight
to its URL (`straight`). For all else the queue has a job for each webhook that has something to do, which is its turn.
"""
