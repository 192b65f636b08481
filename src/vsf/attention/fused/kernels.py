"""The Triton code of `vsf.attention.fused`: one kernel that lets a tile of image rows see a few further keys.

The host's own attention has read every image row against every image key already. A method adds the negative prompt's
few keys, so a program takes a tile of rows of one head, attends to those keys, merges by log-sum-exp and
writes the tile once. Nothing the size of the image rows is kept in float32 outside of registers.

Some methods weigh a token by sums over the channels of all heads (NAG's norms, the orthogonal parts), while programs of
different heads cannot talk to each other. They take two launches of the same code: "measure" leaves one sum per head
and row, "write" adds these up. Doing the few keys twice is cheaper than keeping two tensors of image rows.

All arithmetic is float32; only the operands of the matrix products have the dtype of the inputs.
"""

import triton
import triton.language as tl


@triton.jit
def _number(value, row, stride):
    """Return a number of a method: a scalar as it is, of a tensor the entry for this row of the batch."""
    if stride is None:
        return tl.full([], value, tl.float32)  # compiled code passes Python floats as float64
    else:
        return tl.load(value + row * stride).to(tl.float32)


@triton.jit
def _finite(maximum):
    """Return a maximum of logits that can be subtracted: -inf minus -inf would be NaN."""
    return tl.where(maximum == float("-inf"), 0.0, maximum)


@triton.jit
def _log(total):
    return tl.where(total > 0, tl.log(tl.where(total > 0, total, 1.0)), float("-inf"))


@triton.jit
def _logits(q, K, BIAS, start, keys, skt, sm_scale, KEYS: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr):
    """Return the logits of a tile of queries for KEYS keys from `start` on; -inf past the last one."""
    n, d = start + tl.arange(0, KEYS), tl.arange(0, D)
    k = tl.load(K + n[:, None] * skt + d[None, :], (n < keys)[:, None] & (d < DIM)[None, :], 0.0)
    logits = tl.dot(q, tl.trans(k), input_precision="ieee") * tl.full([], sm_scale, tl.float32)
    if BIAS is not None:
        logits += tl.load(BIAS + n, n < keys, 0.0)[None, :]
    return tl.where((n < keys)[None, :], logits, float("-inf"))


@triton.jit
def _attend(
    q, K, V, BIAS, keys, skt, svt, sm_scale, ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr
):
    """Attend over a few keys; return output and log-sum-exp, zeros and -inf where no key is visible."""
    d = tl.arange(0, D)
    out = tl.zeros([ROWS, D], tl.float32)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    for start in range(0, keys, KEYS):
        n = start + tl.arange(0, KEYS)
        logits = _logits(q, K, BIAS, start, keys, skt, sm_scale, KEYS, D, DIM)
        v = tl.load(V + n[:, None] * svt + d[None, :], (n < keys)[:, None] & (d < DIM)[None, :], 0.0)
        higher = tl.maximum(top, tl.max(logits, 1))
        powers = tl.exp(logits - _finite(higher)[:, None])
        shrink = tl.exp(top - _finite(higher))
        total = total * shrink + tl.sum(powers, 1)
        out = out * shrink[:, None] + tl.dot(powers.to(v.dtype), v, input_precision="ieee")
        top = higher
    return out / tl.where(total > 0, total, 1.0)[:, None], _finite(top) + _log(total)


@triton.jit
def _merge(out, lse, more, more_lse):
    """Merge the attention over two sets of keys by log-sum-exp; 0 and -inf where neither has a visible key."""
    top = _finite(tl.maximum(lse, more_lse))
    weight, more_weight = tl.exp(lse - top), tl.exp(more_lse - top)
    total = weight + more_weight
    # A kernel may leave NaN in a row that sees no key.
    merged = tl.where((weight > 0)[:, None], weight[:, None] * out, 0.0) + more_weight[:, None] * more
    return merged / tl.where(total > 0, total, 1.0)[:, None], top + _log(total)


@triton.jit
def _share(
    q, K, BIAS, OF_KEY, negative, keys, skt, sm_scale, lse,
    ROWS: tl.constexpr, KEYS: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Return the share of the softmax with log-sum-exp `lse` that falls on the keys of one negative prompt."""
    share = tl.zeros([ROWS], tl.float32)
    for start in range(0, keys, KEYS):
        n = start + tl.arange(0, KEYS)
        mine = tl.load(OF_KEY + n, n < keys, -1) == negative
        logits = _logits(q, K, BIAS, start, keys, skt, sm_scale, KEYS, D, DIM)
        share += tl.sum(tl.where(mine[None, :], tl.exp(logits - _finite(lse)[:, None]), 0.0), 1)
    return share


@triton.jit
def _over_heads(SUMS, heads, rows, r, HEADS: tl.constexpr):
    """Add up the sums of all heads, which "measure" has left."""
    h = tl.arange(0, HEADS)
    parts = tl.load(SUMS + h[:, None] * rows + r[None, :], (h < heads)[:, None] & (r < rows)[None, :], 0.0)
    return tl.sum(parts, 0)


@triton.jit
def _sums(positive, guided, RULE: tl.constexpr):
    """Return this head's part of the two sums over the channels of all heads that a rule weighs a token by."""
    if RULE == "nag l1":
        return tl.sum(tl.abs(positive), 1), tl.sum(tl.abs(guided), 1)
    elif RULE == "nag l2":
        return tl.sum(positive * positive, 1), tl.sum(guided * guided, 1)
    elif RULE == "ong":
        return tl.sum(positive * positive, 1), tl.sum(guided * positive, 1)
    else:
        return tl.sum(positive * positive, 1), tl.sum((guided - positive) * positive, 1)


@triton.jit
def _weighed(positive, guided, length, guided_sum, scale, tau, alpha, RULE: tl.constexpr):
    """Finish a rule with its two sums over all heads, `length` of Z⁺ and `guided_sum`, as `_sums` made them."""
    if RULE == "nag l1" or RULE == "nag l2":
        if RULE == "nag l2":
            length, guided_sum = tl.sqrt(length), tl.sqrt(guided_sum)
        grown = guided_sum > tau * length
        restraint = tl.where(grown, tau * length / tl.where(grown, guided_sum, 1.0), 1.0)
        return alpha * restraint[:, None] * guided + (1 - alpha) * positive
    else:
        along = (guided_sum / tl.maximum(length, 1.1754943508222875e-38))[:, None] * positive
        return positive - scale * (guided - along) if RULE == "ong" else guided - along


@triton.jit(do_not_specialize=["positive_keys", "keys", "negatives", "first", "last"])
def guide(
    Q, OUT, LSE, INTO, PK, PV, PBIAS, NK, NV, NBIAS, SHARED, SHARED_LSE, STRENGTH, SUMS, MASS, NORMS, OF_KEY,
    sqb, sqh, sqt, sob, soh, sot, slb, slh, slt, sib, sih, sit, spkb, spkh, spkt, spvb, spvh, spvt, spbb,
    snkb, snkh, snkt, snvb, snvh, snvt, snbb, ssb, ssh, sst, sslb, sslh, sslt, smb, smt,
    scale, scale_stride, offset, offset_stride, tau, tau_stride, alpha, alpha_stride,
    heads, rows, group, positive_keys, keys, negatives, first, last, sm_scale,
    RULE: tl.constexpr, MEASURE: tl.constexpr, ROWS: tl.constexpr, PKEYS: tl.constexpr, KEYS: tl.constexpr,
    HEADS: tl.constexpr, D: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    """Guide one tile of rows of one head; optional tensors are None (see the package).

    Strides are called s + tensor + axis: b(atch), h(eads), t(okens). Channels are contiguous.
    """
    b, h = tl.program_id(1) // heads, tl.program_id(1) % heads
    at_b, at_h, at_kh = b.to(tl.int64), h.to(tl.int64), (h // group).to(tl.int64)  # a long video passes 2³¹ numbers
    r, d = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, D)
    in_range = r < rows
    live = in_range[:, None] & (d < DIM)[None, :]
    to_guide = (r >= first) & (r < last)
    keys *= tl.max((in_range & to_guide).to(tl.int32), 0)  # a tile with no row to guide sees no key and is only copied

    q = tl.load(Q + at_b * sqb + at_h * sqh + r[:, None] * sqt + d[None, :], live, 0.0)
    positive = tl.load(OUT + at_b * sob + at_h * soh + r[:, None] * sot + d[None, :], live, 0.0).to(tl.float32)
    lse = tl.zeros([ROWS], tl.float32)
    if LSE is not None:
        lse = tl.load(LSE + at_b * slb + at_h * slh + r * slt, in_range, 0.0)

    NK += at_b * snkb + at_kh * snkh
    NV += at_b * snvb + at_kh * snvh
    if NBIAS is not None:
        NBIAS += at_b * snbb
    negative, negative_lse = _attend(q, NK, NV, NBIAS, keys, snkt, snvt, sm_scale, ROWS, KEYS, D, DIM)

    # Z⁺ is OUT; where OUT is over the keys that both prompts share alone, it is merged with the positive prompt's.
    shared, shared_lse = positive, lse
    if SHARED is not None:
        at = SHARED + at_b * ssb + at_h * ssh + r[:, None] * sst + d[None, :]
        shared = tl.load(at, live, 0.0).to(tl.float32)
        shared_lse = tl.load(SHARED_LSE + at_b * sslb + at_h * sslh + r * sslt, in_range, 0.0)
    if PK is not None:
        PK += at_b * spkb + at_kh * spkh
        PV += at_b * spvb + at_kh * spvh
        if PBIAS is not None:
            PBIAS += at_b * spbb
        more, more_lse = _attend(q, PK, PV, PBIAS, positive_keys, spkt, spvt, sm_scale, ROWS, PKEYS, D, DIM)
        positive, lse = _merge(positive, lse, more, more_lse)

    scale = _number(scale, b, scale_stride)
    acts = to_guide & (negative_lse > float("-inf"))
    guided = negative
    if RULE == "flip" or RULE == "flip orthogonal" or RULE == "flip centred":
        negative_logits = negative_lse - _number(offset, b, offset_stride)
        acts &= negative_logits > float("-inf")
        if RULE == "flip centred":
            merged, _ = _merge(positive, lse, negative, negative_logits)
            guided = positive - scale * (merged - positive)
        else:
            guided, _ = _merge(positive, lse, -scale * negative, negative_logits)
    elif SHARED is not None or PK is not None:
        guided, _ = _merge(shared, shared_lse, negative, negative_lse)  # Z⁻
    if RULE == "nasa":
        guided = positive - scale * guided
    elif RULE == "nag l1" or RULE == "nag l2":
        guided = scale * positive - (scale - 1) * guided

    one_head = (at_b * heads + at_h) * rows + r
    everything = tl.num_programs(1).to(tl.int64) * rows
    if MEASURE:
        length, guided_sum = _sums(positive, guided, RULE)
        tl.store(SUMS + one_head, length, in_range)
        tl.store(SUMS + everything + one_head, guided_sum, in_range)
    else:
        if SUMS is not None:
            first_head = SUMS + at_b * heads * rows
            length = _over_heads(first_head, heads, rows, r, HEADS)
            guided_sum = _over_heads(first_head + everything, heads, rows, r, HEADS)
            tau, alpha = _number(tau, b, tau_stride), _number(alpha, b, alpha_stride)
            guided = _weighed(positive, guided, length, guided_sum, scale, tau, alpha, RULE)

        # Z⁺ + m·(guided − Z⁺), and either end to the last bit. Where nothing acts, OUT is kept.
        if smb is None:
            m = tl.zeros([ROWS], tl.float32) + tl.full([], STRENGTH, tl.float32)
        else:
            m = tl.load(STRENGTH + at_b * smb + r * smt, in_range & to_guide, 0.0).to(tl.float32)
        blend = tl.where((m == 1)[:, None], guided, positive + m[:, None] * (guided - positive))
        out = tl.where((acts & (m != 0))[:, None], blend, positive)
        at = INTO + at_b * sib + at_h * sih + r[:, None] * sit + d[None, :]
        tl.store(at, out.to(INTO.dtype.element_ty), live)

        if MASS is not None:
            tl.store(NORMS + one_head, tl.sum((out - positive) * (out - positive), 1), in_range)
            tl.store(NORMS + everything + one_head, tl.sum(positive * positive, 1), in_range)
            _, total_lse = _merge(positive, lse, negative, negative_lse)
            for number in range(0, negatives):
                share = _share(q, NK, NBIAS, OF_KEY, number, keys, snkt, sm_scale, total_lse, ROWS, KEYS, D, DIM)
                tl.store(MASS + ((at_b * heads + at_h) * negatives + number) * rows + r, share, in_range)
