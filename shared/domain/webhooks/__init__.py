"""The rules of outbound webhooks: who gets what, in which form, signed how, and when it is tried again. No I/O."""
