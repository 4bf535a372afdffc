"""What the fake engine refuses, and whose fault it is: always the caller's."""


class RequestRefusedError(Exception):
    """The caller's request cannot be served; carries what OpenAI's error shape needs."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
