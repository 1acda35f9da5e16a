"""Container images that replace those of roles: which image a node runs, and where it does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from testbed.document.marks import Marks
from testbed.errors import TopologyError, did_you_mean
from testbed.topology.model import Topology
from testbed.topology.roles import Role


def role_images(roles: Iterable[Role], images: Mapping[str, str]) -> dict[str, str]:
    """Which of these roles have an image of their own: a topology's `images` override the manifests.

    What they say of a role is meant of those too that act as it.
    """
    return {role.name: image for role in roles if (image := _image(role, images) or role.image)}


def _image(role: Role, images: Mapping[str, str]) -> str | None:
    return next((images[name] for name in (role.name, *role.acts_as) if name in images), None)


def check_images(topology: Topology, roles: Mapping[str, Role], marks: Marks) -> Iterator[TopologyError]:
    """A node has one image: what else runs beside a replaced role has to be replaced by the same.

    A node's own image is its author's word for all of its roles.
    """
    written = dict.fromkeys(role for node in topology.nodes.values() for role in node.roles)
    having = written | dict.fromkeys(one for name in written if name in roles for one in roles[name].acts_as)
    for role in topology.images:
        if role not in having:
            message = f"images.{role}: no node has the role {role}"
            yield TopologyError(message, hint=did_you_mean(role, having), source=marks.key(("images", role)))
    for name, node in topology.nodes.items():
        known = [roles[role] for role in dict.fromkeys(node.roles) if role in roles]
        replaced = role_images(known, topology.images)
        running = [role.name for role in known if role.services]
        for role, image in {} if node.image else replaced.items():
            if others := [one for one in running if one != role and replaced.get(one) != image]:
                rest = " and ".join(others)
                runs = "runs" if len(others) == 1 else "run"
                yield TopologyError(
                    f"nodes.{name}: a node has one image, {image} is for {role} alone, "
                    f"and {rest} {runs} in the same node",
                    hint=f"if it runs {rest} too, add --set node.{name}.image={image}; "
                    f"else give {role} a node of its own",
                    source=marks.value(("images", role) if role in topology.images else ("nodes", name)),
                )
