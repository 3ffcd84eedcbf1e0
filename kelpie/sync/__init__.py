"""Bytes between disk and bucket: verified, atomic, bounded in memory, and never past the fence.

Knows no job, no API and no configuration; it is handed values.
"""

from kelpie.sync.bucket import S3, S3Bucket
from kelpie.sync.fence import Fence
from kelpie.sync.mirror import Mirror, take_baseline
from kelpie.sync.objects import Bucket, ObjectInfo
from kelpie.sync.paths import Rule
from kelpie.sync.pull import PullResult, pull
from kelpie.sync.push import PushResult, push_after
from kelpie.sync.transfer import Transfer

__all__ = [
    "S3",
    "Bucket",
    "Fence",
    "Mirror",
    "ObjectInfo",
    "PullResult",
    "PushResult",
    "Rule",
    "S3Bucket",
    "Transfer",
    "pull",
    "push_after",
    "take_baseline",
]
