"""Rules that relate several keys of a plan. `privacy/accept.py` checks the plan as a whole."""

from __future__ import annotations

import math
from typing import Any

from .schema import EVERY, UNKNOWN, Column, Data, Words, gives_one_away, least_units
from .thresholds import COMPLETE, MOST_DEVICES, least_in_sum, most_colluders, most_dropouts, sparse_degree

Sections = dict[str, Any]

MOST_DELTA = 0.01
"""The largest delta of any plan."""


def _cohort_fits(s: Sections) -> str | None:
    size, clients = s["cohort"].size, s["data"].clients
    return f"cohort.size is {size}, data.clients only {clients}" if size > clients else None


def _minimum_fits(s: Sections) -> str | None:
    minimum, size = s["cohort"].minimum, s["cohort"].size
    return f"cohort.minimum is {minimum}, above cohort.size {size}" if minimum > size else None


def _pooled_sums_have_one_step(s: Sections) -> str | None:
    steps, p = s["training"].local_steps, s["privacy"]
    if p.noise != "local" and p.unit != "client" and steps > 1:
        return f"training.local_steps is {steps}, but noise = {p.noise} makes one step a round"
    return None


def _clients_are_not_sampled(s: Sections) -> str | None:
    p = s["privacy"]
    if p.unit == "client" and p.sampling_rate < 1:
        return f"privacy.sampling_rate is {p.sampling_rate:g}, unit = client takes 1: cohorts are dealt, not sampled"
    return None


def _adapted_clips_are_clients(s: Sections) -> str | None:
    p = s["privacy"]
    return "privacy.clip_quantile is for unit = client" if p.clip_quantile and p.unit != "client" else None


def _bands_need_central_noise(s: Sections) -> str | None:
    p = s["privacy"]
    if _bands(s) > 1 and (p.unit, p.noise) != ("client", "central"):
        return (
            "privacy.bands is for unit = client with noise = central: one party has to know the noise of all rounds"
        )
    return None


def _bands_leave_enough_clients(s: Sections) -> str | None:
    bands, size, clients = _bands(s), s["cohort"].size, s["data"].clients
    if bands > 1 and clients < bands * size:
        return (
            f"privacy.bands is {bands}, so cohorts of {size} need {bands * size} clients, data.clients is {clients}"
        )
    return None


def _bands_fit_the_rounds(s: Sections) -> str | None:
    bands, rounds = _bands(s), s["cohort"].rounds
    return f"privacy.bands is {bands}, above cohort.rounds {rounds}" if bands > rounds else None


def _bands_need_a_fixed_clip_norm(s: Sections) -> str | None:
    if _bands(s) > 1 and s["privacy"].clip_quantile:
        return "privacy.bands takes noise back as it was put in, which privacy.clip_quantile would scale anew"
    return None


def _bands_are_for_sgd(s: Sections) -> str | None:
    server = s["server"]
    if _bands(s) > 1 and server.optimizer != "sgd":
        return "privacy.bands is for server.optimizer = sgd, which adds up the releases"
    if _bands(s) > 1 and (server.weight_decay or server.schedule or server.warmup):
        return "privacy.bands is for steps of one rate: leave out server.weight_decay, schedule and warmup"
    return None


def _bands(s: Sections) -> int:
    return s["privacy"].bands or 1


def _shared_noise_is_masked(s: Sections) -> str | None:
    if s["privacy"].noise == "distributed" and s["aggregation"].protocol != "secagg":
        return "noise = distributed shares the noise inside a secure sum, it needs aggregation.protocol = secagg"
    return None


def _layers_need_distributed_noise(s: Sections) -> str | None:
    p = s["privacy"]
    if p.shares == "xnoise" and p.noise != "distributed":
        return f"privacy.shares = xnoise is for noise = distributed, not for {p.noise}"
    return None


def _two_devices_are_honest(s: Sections) -> str | None:
    size, colluders = s["cohort"].size, _colluders(s)
    if s["aggregation"].protocol != "secagg" or size - colluders >= 2:
        return None
    return (
        f"cohort.size is {size}, secure aggregation hides no sum of one: raise it to {colluders + 2} at least, for "
        f"{colluders} may work with the server"
    )


def _enough_devices_survive(s: Sections) -> str | None:
    size, colluders, dropouts = s["cohort"].size, _colluders(s), s["aggregation"].dropouts
    least = least_in_sum(size, colluders)
    if s["aggregation"].protocol != "secagg" or least > size or least <= size - most_dropouts(size, dropouts):
        return None
    return (
        f"{size} devices that withstand {colluders} colluders need {least} in a sum, aggregation.dropouts "
        f"{dropouts:g} may leave {size - most_dropouts(size, dropouts)}: lower it to "
        f"{_fraction(size - least, size):g}, or lower aggregation.colluders"
    )


def _fraction(dropouts: int, size: int) -> float:
    """Return a value of `aggregation.dropouts`, of few digits, that allows `dropouts` devices or slightly fewer."""
    fraction = math.ceil(1000 * dropouts / size) / 1000
    return fraction if most_dropouts(size, fraction) <= dropouts else math.floor(1000 * dropouts / size) / 1000


def _colluders(s: Sections) -> int:
    return most_colluders(s["cohort"].size, s["aggregation"].colluders)


def _malicious_is_complete(s: Sections) -> str | None:
    a, size = s["aggregation"], s["cohort"].size
    if a.protocol == "secagg" and a.mode == "malicious-server" and size > COMPLETE:
        return f"cohort.size is {size}, aggregation.mode = malicious-server takes at most {COMPLETE}"
    return None


def _secagg_has_room(s: Sections) -> str | None:
    size = s["cohort"].size
    too_many = s["aggregation"].protocol == "secagg" and size > MOST_DEVICES
    return f"cohort.size is {size}, secure aggregation takes at most {MOST_DEVICES}" if too_many else None


def _graph_exists(s: Sections) -> str | None:
    a, size = s["aggregation"], s["cohort"].size
    if a.protocol != "secagg" or not COMPLETE < size <= MOST_DEVICES:
        return None
    try:
        sparse_degree(size, _colluders(s), a.dropouts)
    except ValueError:
        return f"aggregation.colluders {a.colluders:g} and dropouts {a.dropouts:g} leave no safe graph"
    return None


def _opacus_is_in_float32(s: Sections) -> str | None:
    t = s["training"]
    narrow = t.engine == "opacus" and t.precision != "float32"
    return f"training.precision {t.precision} is not for engine = opacus" if narrow else None


def _momentum_is_for_sgd(s: Sections) -> str | None:
    server = s["server"]
    return "server.momentum is for optimizer = sgd" if server.momentum and server.optimizer != "sgd" else None


def _local_momentum_is_for_sgd(s: Sections) -> str | None:
    training = s["training"]
    return "training.momentum is for optimizer = sgd" if training.momentum and training.optimizer else None


def _pooled_sums_take_the_servers_step(s: Sections) -> str | None:
    p, t = s["privacy"], s["training"]
    if p.unit == "client" or p.noise == "local":
        return None
    instead = {
        "optimizer": "set server.optimizer",
        "momentum": "set server.momentum",
        "weight_decay": "set server.weight_decay",
        "proximal": "leave it out",
    }
    for key, other in instead.items():
        if getattr(t, key):
            return f"training.{key} is for devices with steps of their own: {other}, as the server takes the steps"
    return None


def _local_noise_takes_sgd(s: Sections) -> str | None:
    p, t = s["privacy"], s["training"]
    if t.optimizer and p.unit != "client" and p.noise == "local":
        return f"training.optimizer = {t.optimizer} is for unit = client: the range of noised steps is that of sgd"
    return None


def _schedules_end(s: Sections) -> str | None:
    warmup, rounds = s["server"].warmup or 0, s["cohort"].rounds
    return f"server.warmup is {warmup}, but there are {rounds} rounds" if warmup > rounds else None


def _starts_have_weights(s: Sections) -> str | None:
    m = s["model"]
    set_keys = [key for key in ("fresh", "frozen", "adapters") if getattr(m, key)]
    if m.weights_digest:
        return None
    if m.weights:
        return "model.weights_digest is missing: a plan that is deployed names the SHA-256 of model.weights"
    return f"model.{set_keys[0]} needs model.weights, the file to start from" if set_keys else None


def _files_have_a_path(s: Sections) -> str | None:
    data = s["data"]
    return "data.path is missing, data.name = files needs it" if data.name == "files" and not data.path else None


def _columns_are_whole(s: Sections) -> str | None:
    columns: dict[str, Column] = s["data"].columns or {}
    faults = ((name, _column_fault(column)) for name, column in columns.items())
    return next((f"data.columns {name!r} {fault}" for name, fault in faults if fault), None)


def _column_fault(c: Column) -> str | None:
    """Return what is wrong with how a column becomes numbers, or None."""
    if c.missing and c.fill is None:
        return "lists cells that are missing, but no fill"
    return _interval_fault(c) if c.values is None else _values_fault(c, c.values)


def _values_fault(c: Column, values: Words) -> str | None:
    if c.clip or c.scale or c.standardize:
        return "has values, which are words, and also clip, scale or standardize, which are for numbers"
    if len(set(values)) < len(values):
        return "lists a value twice"
    odd = c.fill is not None and c.fill not in values and c.other is None
    return "has a fill that is none of its values" if odd else None


def _interval_fault(c: Column) -> str | None:
    if c.other:
        return "has other, which is for a column with values"
    if isinstance(c.fill, str):
        return "has a word as fill: list its values, or fill with a number"
    if c.scale and c.standardize:
        return "has both scale and standardize: choose one"
    if c.clip and c.clip[0] > c.clip[1]:
        return "clips to an interval that ends before it begins"
    if c.scale and not c.scale[0] < c.scale[1]:
        return "scales an interval that ends before it begins"
    return "has a deviation that is not above 0" if c.standardize and c.standardize[1] <= 0 else None


def _columns_are_told_apart(s: Sections) -> str | None:
    d: Data = s["data"]
    features, ignored = d.features or (), d.ignore or ()
    if features and ignored:
        return "data.features and data.ignore are both given: one says the same as the other"
    if twice := [name for name in (*features, *ignored) if (*features, *ignored).count(name) > 1]:
        return f"data.{'features' if features else 'ignore'} names {twice[0]!r} twice"
    roles = {"label": d.label, "client": d.client, "part": d.part}
    for role, name in roles.items():
        if name is not None and name in (*features, *ignored):
            return f"data.{role} is {name!r}, which data.{'features' if features else 'ignore'} also names"
        if name is not None and list(roles.values()).count(name) > 1:
            return f"data.{role} is {name!r}, which is another role's column too"
    unknown = [name for name in d.columns or {} if name not in (*features, d.label, "label", "target", EVERY)]
    if features and unknown:
        return f"data.columns has {unknown[0]!r}, which is none of data.features"
    return f"data.columns has {d.client!r}, which is data.client" if d.client and d.client in unknown else None


def _features_fill_the_shape(s: Sections) -> str | None:
    d: Data = s["data"]
    if d.features is None or d.tokens:
        return None
    rules = [d.rule(name) for name in d.features]
    found = sum(1 if rule is None else rule.width for rule in rules) * (d.window or 1)
    if found == math.prod(d.shape):
        return None
    return f"data.shape is {list(d.shape)}, but data.features give {found} numbers: set data.shape = [{found}]"


def _labels_are_the_classes(s: Sections) -> str | None:
    d: Data = s["data"]
    if d.labels is None:
        return None
    if len(set(d.labels)) < len(d.labels):
        return "data.labels lists a class twice"
    if len(d.labels) != d.classes:
        return f"data.labels lists {len(d.labels)} classes, data.classes is {d.classes}"
    return None


def _texts_have_tokens(s: Sections) -> str | None:
    d: Data = s["data"]
    if d.vocabulary is None:
        return None
    if d.tokens is None:
        return "data.vocabulary is for texts: set data.tokens = characters or words"
    if len(set(d.vocabulary)) < len(d.vocabulary):
        return "data.vocabulary lists a token twice"
    if d.tokens == "characters" and any(len(token) != 1 for token in d.vocabulary if token != UNKNOWN):
        return f"data.vocabulary has a token that is neither one character nor {UNKNOWN}"
    if len(d.vocabulary) != d.classes:
        return f"data.vocabulary lists {len(d.vocabulary)} tokens, data.classes is {d.classes}"
    return None


def _windows_have_a_stride(s: Sections) -> str | None:
    d: Data = s["data"]
    return "data.stride is for data.window, which is not given" if d.stride and d.window is None else None


def _delta_is_small(s: Sections) -> str | None:
    delta = s["privacy"].delta
    too_large = delta > MOST_DELTA
    return f"privacy.delta {delta:g} is no guarantee, it must be at most {MOST_DELTA:g}" if too_large else None


def _delta_is_below_one_unit(s: Sections) -> str | None:
    p, data = s["privacy"], s["data"]
    units = least_units(data, s["training"], p)
    if not p.bounds_delta or p.delta > MOST_DELTA or not gives_one_away(p.delta, units):
        return None
    source = "data.clients" if p.unit == "client" else "data.records"
    if source == "data.records" and data.records is None:
        source = "training.batch_size / privacy.sampling_rate, as data.records is not given"
    return (
        f"privacy.delta {p.delta:g} is 1/n or more, n = {units:,.0f} {p.unit}s ({source}): publishing a whole "
        f"{p.unit} would satisfy it; lower it, or set privacy.allow_large_delta = true"
    )


RULES = (
    _cohort_fits,
    _minimum_fits,
    _pooled_sums_have_one_step,
    _clients_are_not_sampled,
    _adapted_clips_are_clients,
    _bands_need_central_noise,
    _bands_leave_enough_clients,
    _bands_fit_the_rounds,
    _bands_need_a_fixed_clip_norm,
    _bands_are_for_sgd,
    _shared_noise_is_masked,
    _layers_need_distributed_noise,
    _opacus_is_in_float32,
    _momentum_is_for_sgd,
    _local_momentum_is_for_sgd,
    _pooled_sums_take_the_servers_step,
    _local_noise_takes_sgd,
    _schedules_end,
    _files_have_a_path,
    _starts_have_weights,
    _columns_are_whole,
    _columns_are_told_apart,
    _features_fill_the_shape,
    _labels_are_the_classes,
    _texts_have_tokens,
    _windows_have_a_stride,
    _malicious_is_complete,
    _two_devices_are_honest,
    _enough_devices_survive,
    _secagg_has_room,
    _graph_exists,
    _delta_is_small,
    _delta_is_below_one_unit,
)
"""Every rule: each takes the tables and returns a fault, or None."""
