"""Train only the rows of an embedding table whose words occur in the training texts.

The table of words is half of a small encoder's weights. A word that never occurs has no gradient,
so its row cannot move (tables get no weight decay); yet its gradient, its two moments and its
update would be written and read in every step. Exact: the rows that occur move as ever.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_utils.data import Inputs, TokenizedTexts


def own_table(model: nn.Module) -> nn.Embedding | None:
    """The model's table of input words, unless another layer shares it (as in GPT-2)."""
    for module in model.modules():
        if hasattr(module, "get_input_embeddings"):
            table = module.get_input_embeddings()
            if not isinstance(table, nn.Embedding):
                return None
            holders = sum(
                p is table.weight for m in model.modules() for p in m._parameters.values()
            )
            return table if holders == 1 else None
    return None


@contextmanager
def live_rows(model: nn.Module, inputs: Inputs, enabled: bool = True) -> Iterator[None]:
    """Inside the block the word table's weight has a row for each word that occurs, no more.

    Args:
        model: any model; without a word table of its own nothing changes.
        inputs: the training inputs.
        enabled: False changes nothing.

    Other words (those of a validation text) still find their rows, and `state_dict` gives and takes
    the whole table. When the block ends, the rows go back into it, and it is the same parameter as
    before.
    """
    table = own_table(model) if enabled and isinstance(inputs, TokenizedTexts) else None
    if table is None or not isinstance(inputs, TokenizedTexts):
        yield
        return
    whole = table.weight
    occurring = inputs.ids.unique().long().to(whole.device)
    row_of = torch.full((len(whole),), -1, device=whole.device)
    row_of[occurring] = torch.arange(len(occurring), device=whole.device)

    def lookup(ids: Tensor) -> Tensor:
        rows = row_of[ids]
        # In training only padding is not among the rows; whatever it gets, nothing looks at it.
        live = F.embedding(rows.clamp(min=0), table.weight)
        return live if table.training else torch.where((rows >= 0).unsqueeze(-1), live, whole[ids])

    def give_whole(_: nn.Module, state: dict, prefix: str, __: dict) -> None:
        state[prefix + "weight"] = whole.detach().index_copy(0, occurring, table.weight.detach())

    def take_rows(_: nn.Module, state: dict, prefix: str, *__: object) -> None:
        state[prefix + "weight"] = state[prefix + "weight"][
            occurring.to(state[prefix + "weight"].device)
        ]

    table.weight = nn.Parameter(whole.detach()[occurring])
    table.forward = lookup  # type: ignore[method-assign]
    hooks = [
        table.register_state_dict_post_hook(give_whole),
        table.register_load_state_dict_pre_hook(take_rows),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        with torch.no_grad():
            whole[occurring] = table.weight
        table.weight = whole
        del table.forward
