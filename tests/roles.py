"""What keys may do in tests: as in the app, from the manifests of all modules."""

from aitbc.app import MODULES
from aitbc.kernel.identity.principal import role_scopes

ROLE_SCOPES = role_scopes(module.scopes for module in MODULES)
