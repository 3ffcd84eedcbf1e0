"""What can go wrong between disk and bucket, in the words of the user, and whether it passes.

Pure tables and exceptions: the doors to the libraries (`bucket`, `disk`)
look a fault up here and raise what they find.
"""

from __future__ import annotations

import errno
from pathlib import Path

from kelpie.errors import TransferFailed


class FileChanged(TransferFailed):
    """A file changed while it was read, so nothing of it was put into the bucket."""


class StartOver(TransferFailed):
    """Asking again is of no use, but the whole file may get through if it is begun anew."""


class ObjectChanged(StartOver):
    """An object was replaced while it was read."""


class UploadGone(StartOver):
    """The store knows nothing (any more) of a multipart upload."""


class NotVerified(StartOver):
    """What arrived is not what was sent."""


# Answers that trying again does not change, and what to do about them.
_FINAL = {
    "NoSuchBucket": "the bucket does not exist: create it or correct its name",
    "InvalidBucketName": "that is no valid bucket name: correct it",
    "AccessDenied": "access denied: give these credentials the right to list, read, write and delete there",
    "AllAccessDisabled": "the store has disabled all access to this bucket",
    "AccountProblem": "the store reports a problem with the account",
    "InvalidAccessKeyId": "the store does not know the access key: check AWS_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "the secret key does not fit the access key: check AWS_SECRET_ACCESS_KEY",
    "InvalidToken": "the session token is not valid: check AWS_SESSION_TOKEN",
    "ExpiredToken": "the credentials have expired: renew them",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "AuthorizationHeaderMalformed": "the region does not fit the bucket: check AWS_REGION",
    "IllegalLocationConstraintException": "the region does not fit the bucket: check AWS_REGION",
    "PermanentRedirect": "the bucket is in another region: check AWS_REGION and the endpoint",
    "EntityTooLarge": "the store does not take objects of this size",
    "KeyTooLongError": "the key is longer than the store allows: shorten the path or the prefix",
    "QuotaExceeded": "the store's quota is used up: free space or raise the quota",
    "NoSuchKey": "there is no such object",
    "InvalidObjectState": "the object is archived: restore it first",
    # A HEAD has no body, so the status is all there is.
    "301": "the bucket is in another region: check AWS_REGION and the endpoint",
    "400": "the store refused the request: check credentials, region and endpoint",
    "401": "the store refused the credentials: check the AWS variables",
    "403": "access denied: check the credentials and their rights on this bucket",
}

# Client errors by their status, faults of the moment by their meaning.
_PASSING = {
    "BadDigest",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "ConditionalRequestConflict",
    "RequestTimeout",
    "RequestTimeoutException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "RequestLimitExceeded",
    "BandwidthLimitExceeded",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
}
_PASSING_STATUS = {408, 409, 425, 429}
_SERVER_ERROR = 500


def store_refused(doing: str, code: str, status: int, detail: str) -> TransferFailed:
    """Name what the store answered to `doing` ("upload s3://bucket/key")."""
    if code == "NoSuchUpload":
        return UploadGone(f"Could not {doing}: the multipart upload is gone.", retryable=True)
    if code in {"PreconditionFailed", "InvalidRange"}:
        return ObjectChanged(f"Could not {doing}: the object changed meanwhile.", retryable=True)
    passing = code in _PASSING or status in _PASSING_STATUS or status >= _SERVER_ERROR
    if passing and code not in _FINAL:
        return TransferFailed(f"Could not {doing}: the store answered {code} ({status}).", retryable=True)
    advice = _FINAL.get(code) or f"the store answered {code} ({status}): {detail}"
    return TransferFailed(f"Could not {doing}: {advice}.", retryable=False)


def not_reached(doing: str, endpoint: str, error: BaseException) -> TransferFailed:
    """Name a fault on the way to the store; all of these may pass."""
    reason = str(error) or type(error).__name__
    return TransferFailed(
        f"Could not {doing}: no complete answer from {endpoint} ({reason}). "
        "If this does not pass, check the network and the endpoint.",
        retryable=True,
    )


_DISK_ADVICE = {
    errno.ENOSPC: "no space left on the disk: free some or use a larger one",
    errno.EDQUOT: "the disk quota is used up: free some space or raise it",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EISDIR: "there is a directory of that name (keys `a` and `a/b` cannot both become files)",
    errno.ENOTDIR: "a part of the path is a file (keys `a` and `a/b` cannot both become files)",
    errno.EEXIST: "a part of the path is a file (keys `a` and `a/b` cannot both become files)",
    errno.ENAMETOOLONG: "the name is longer than the file system allows",
}


def disk_refused(doing: str, path: Path, error: OSError) -> TransferFailed:
    """Name what the local file system answered; trying again does not help."""
    advice = _DISK_ADVICE.get(error.errno or 0, error.strerror or str(error))
    return TransferFailed(f"Could not {doing} {path}: {advice}.", retryable=False)
