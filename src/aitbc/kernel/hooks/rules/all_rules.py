"""All rules, in the order in which their findings are told."""

from collections.abc import Sequence

from aitbc.kernel.hooks.rules import (
    blocked_host_rule,
    blocked_module_rule,
    exports_rule,
    imports_rule,
    leaked_secret_rule,
    manifest_rule,
    similar_name_rule,
    size_rule,
)
from aitbc.kernel.hooks.rules.package import Known, Package, Rule, RuleFinding

RULES: dict[str, Rule] = {
    rule.RULE: rule.check
    for rule in (
        manifest_rule,
        size_rule,
        exports_rule,
        imports_rule,
        leaked_secret_rule,
        blocked_host_rule,
        blocked_module_rule,
        similar_name_rule,
    )
}
"""Each rule by its name."""


def findings_in(manifest: bytes, artifact: bytes, known: Known) -> Sequence[RuleFinding]:
    """What all rules find in a package; nothing in one that may be published."""
    package = Package(manifest, artifact, known)
    return [finding for check in RULES.values() for finding in check(package)]
