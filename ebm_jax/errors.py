"""Errors that a user can mend: the command line prints their message alone and exits with their status."""


class UserError(Exception):
    """A mistake in the input; the message names the offending value and the fix."""

    exit_status = 2


class NonFiniteError(UserError):
    """A training step produced NaN or infinity; the last good state is kept."""

    exit_status = 3


class LostProcessError(UserError):
    """Another process of the run is gone; the same command on all hosts goes on from the newest checkpoint."""

    exit_status = 75
    """That of a failure which may not come again (``EX_TEMPFAIL``)."""
