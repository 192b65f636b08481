"""A plan for the attention calls of one shape: made once, carried out in every layer."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vsf.attention.call import HostCall
from vsf.attention.checks import check_shapes
from vsf.attention.control import Control, Observation
from vsf.attention.layout import TokenLayout
from vsf.attention.partial import blend
from vsf.attention.rows import ROWS, RowsCall, RowsPlan
from vsf.errors import LayoutError
from vsf.guidance.base import Guidance
from vsf.guidance.fusion import FusedRoute, can_fuse, takes_mask
from vsf.guidance.observe import observe
from vsf.guidance.partials import NegativePartials, Numbers, Partials, TextPartials


class AttentionPlan:
    """Applies a method to the attention calls of one shape.

    Made from a first call: layouts are checked, batch rows grouped, masks and weights made on the device. `attend` then
    guides any call with the same shapes, dtype and device; the host's mask may differ from call to call.
    """

    def __init__(
        self,
        method: Guidance,
        call: HostCall,
        layout: TokenLayout | Sequence[TokenLayout],
        *,
        negative_valid: Bool[Tensor, "batch negative_tokens"] | None = None,
        control: Control | None = None,
    ) -> None:
        """Plan for calls like this one; arguments as `guided_attention` takes them.

        Raises:
            LayoutError: shapes and layout do not fit together.
        """
        control = Control() if control is None else control
        layouts = _one_per_row(layout, call.query.shape[0])
        check_shapes(call, layouts, negative_valid, control)
        groups = _alike(layouts, control)
        self.method = method
        self.rows = [RowsPlan(call, layouts[group[0]], control, negative_valid, tuple(group)) for group in groups]
        order = [row for group in groups for row in group]
        # The inverse of `order`: it puts the rows of the groups' results back.
        self._order = [order.index(row) for row in range(len(order))]
        guided = set(method.guided_rows)
        self._guides_image = "image" in guided
        self._guides_text = guided.issuperset(ROWS["text"])
        self._guides_negative = "negative" in guided
        self._routes = [self._route(plan, call.query.shape[3]) for plan in self.rows]

    def attend(
        self, call: HostCall, watch: Callable[[Observation], None] | None = None
    ) -> Float[Tensor, "batch heads queries channels"]:
        """Guide a call.

        Args:
            call: the host's call.
            watch: called with an observation for each group of batch rows.
        """
        # The usual case: all rows are alike, and nothing has to be cut or concatenated.
        if len(self.rows) == 1:
            return self._attend(RowsCall(self.rows[0], call), self._routes[0], watch)
        outs = []
        for plan, route in zip(self.rows, self._routes, strict=True):
            query = call.query[plan.batch]
            key = call.key[plan.batch]
            value = call.value[plan.batch]
            rows = RowsCall(plan, replace(call, query=query, key=key, value=value))
            outs.append(self._attend(rows, route, watch))
        joined = torch.cat(outs)
        if self._order == sorted(self._order):
            return joined
        return torch.cat([joined[row : row + 1] for row in self._order])

    def _route(self, plan: RowsPlan, channels: int) -> FusedRoute | None:
        """Plan the fused route for some rows; None where the rows or the method have none."""
        in_places = isinstance(plan.strength, Tensor) and plan.strength.dim() > 0
        # Text rows follow the least strength of all places in the picture, which the fused kernels do not compute.
        text_differs = self._guides_text and in_places and plan.kind == "joint"
        if text_differs or not can_fuse(plan, channels):
            return None
        fusion = self.method.fusion(Numbers(plan))
        return None if fusion is None else FusedRoute(plan, fusion, text_too=self._guides_text)

    def _attend(self, call: RowsCall, route: FusedRoute | None, watch: Callable[[Observation], None] | None) -> Tensor:
        """Guide a group of batch rows that are alike."""
        plan = call.plan
        if not plan.has_negative and plan.emphasis is None:
            return call.untouched()
        if route is not None and call.kernel is not None and call.model.is_fused and takes_mask(plan.mask):
            return route.attend(call, None if plan.kind == "cross" else self._negative_rows(call), watch)
        partials = Partials(call)
        image = self._guided_rows(partials) if self._guides_image else partials.unguided
        if watch is not None and plan.acts:
            observation = observe(partials, image)
            if observation is not None:
                watch(observation)
        return image if plan.kind == "cross" else self._in_order(call, image)

    def _guided_rows(self, partials: Partials) -> Tensor:
        """Return the method's output for rows that it guides, blended by the strength, where there is a negative."""
        plan = partials.call.plan
        if not plan.acts:
            return partials.unguided
        guided = self.method.combine(partials)
        strength = plan.strength if partials.rows == "image" else plan.least_strength
        if isinstance(strength, Tensor) or strength != 1:
            guided = blend(partials.unguided, guided, strength)
        if plan.may_lack_negative:
            guided = torch.where(plan.present(partials.rows), guided, partials.unguided)
        return guided

    def _negative_rows(self, call: RowsCall) -> Tensor:
        if self._guides_negative:
            return self._guided_rows(NegativePartials(call))
        return call.over("negative", "all").attend()

    def _in_order(self, call: RowsCall, image: Tensor) -> Tensor:
        """Put image, text and negative rows back where their tokens stand in the sequence."""
        plan = call.plan
        streams = {"image": image}
        if plan.has_text:
            streams["text"] = self._guided_rows(TextPartials(call)) if self._guides_text else call.text()
        if plan.has_negative:
            streams["negative"] = self._negative_rows(call)
        # Hosts go on with (batch, tokens, heads · channels): concatenated in that order, nothing is copied again.
        pieces = []
        for rows, start, length in plan.order:
            pieces.append(streams[rows].narrow(2, start, length).transpose(1, 2))
        return torch.cat(pieces, 1).transpose(1, 2)


def _one_per_row(layout: TokenLayout | Sequence[TokenLayout], batch: int) -> list[TokenLayout]:
    layouts = [layout] * batch if isinstance(layout, TokenLayout) else list(layout)
    if len(layouts) != batch or not layouts:
        raise LayoutError(f"needs one layout for all, or one per batch row ({batch}), got {len(layouts)}")
    return layouts


def _alike(layouts: Sequence[TokenLayout], control: Control) -> list[list[int]]:
    """Group the batch rows by layout, by whether they are guided, and by whether they are emphasised."""
    unguided = () if control.is_off else control.unguided or ()
    groups: dict[tuple[TokenLayout, bool, bool], list[int]] = {}
    for row, layout in enumerate(layouts):
        is_plain = control.emphasis is None or control.emphasis[row] is None
        groups.setdefault((layout, row in unguided, is_plain), []).append(row)
    return list(groups.values())
