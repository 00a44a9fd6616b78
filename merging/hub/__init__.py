"""The only package that speaks to the Hub: metadata and byte ranges in, shards and one commit out."""

from merging.hub.access import Account, Hub, local_token, open_model, open_models
from merging.hub.client import check_repo_id
from merging.hub.delivery import Delivery
from merging.hub.publication import publish
from merging.hub.repo import HubRepo
from merging.hub.verification import ShardCheck, Verified, verify
from merging.hub.words import HubFault, TokenRefused, UnknownRepo
from merging.patience import Patience

__all__ = [
    "Account",
    "Delivery",
    "Hub",
    "HubFault",
    "HubRepo",
    "Patience",
    "ShardCheck",
    "TokenRefused",
    "UnknownRepo",
    "Verified",
    "check_repo_id",
    "local_token",
    "open_model",
    "open_models",
    "publish",
    "verify",
]
