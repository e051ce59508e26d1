"""The error that a command raises when a person has to act: what is wrong, and what to do next."""


class Problem(Exception):
    """Printed as two short lines, without a traceback; the command ends with exit code 1."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message} {remedy}")
        self.message = message
        self.remedy = remedy
