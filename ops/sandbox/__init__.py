"""The provider sandbox: plays the providers over real HTTP on this machine, with faults on demand.

One provider is one module (`twilio`, `meta`, `kommo`, `email`, `openai`); the record of calls, the faults and
the control API are shared. Start it with `python -m ops.sandbox`, or in a test with `ops.sandbox.app.make_app`; call
its control API with `ops.sandbox.client.SandboxClient`. It listens on loopback only and calls back to loopback only.
"""
