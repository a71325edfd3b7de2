"""Errors that a user can mend: the command line prints their message alone and exits with their status."""


class UserError(Exception):
    """A mistake in the input; the message names the offending value and the fix."""

    exit_status = 2


class NonFiniteError(UserError):
    """A training step produced NaN or infinity; the last good state is kept."""

    exit_status = 3
