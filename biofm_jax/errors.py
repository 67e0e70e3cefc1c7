"""The error a user can mend."""


class UserError(ValueError):
    """Bad input, a bad option or an impossible combination.

    The command prints the message without a traceback and exits with 2, so the message names
    the file, the line, the field and the fix.
    """
