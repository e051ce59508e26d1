"""The provider sandbox: plays the providers over real HTTP on this machine, with faults on demand.

One provider is one module (`twilio`, `meta`, `openai`); what they took, the faults and the control API are shared.
Start it with `python -m ops.sandbox`, or in a test with `ops.sandbox.app.make_app`; talk to its control side with
`ops.sandbox.client.SandboxClient`. It listens on loopback only and calls back to loopback only.
"""
