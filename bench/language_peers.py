"""What TransformerLens 2 makes of the GPT of `bench/language.py`: the same weights, patched by hooks one by one."""

from __future__ import annotations

from typing import Any

import numpy as np


class Peer:
    """The model in TransformerLens."""

    def __init__(self, params: Any, heads: int) -> None:
        import torch
        from transformer_lens import HookedTransformer, HookedTransformerConfig

        (words, width), length = params["embed"].shape, params["position"].shape[0]
        config = HookedTransformerConfig(
            n_layers=len(params["blocks"]),
            d_model=width,
            n_ctx=length,
            d_head=width // heads,
            n_heads=heads,
            d_mlp=4 * width,
            d_vocab=words,
            act_fn="gelu_new",
            normalization_type="LN",
            device="cpu",
            default_prepend_bos=False,
        )
        self.model = HookedTransformer(config)
        state = {name: torch.tensor(np.array(value)) for name, value in _state(params, heads).items()}
        missing, unknown = self.model.load_state_dict(state, strict=False)
        assert not unknown, unknown
        assert all("mask" in name or "IGNORE" in name for name in missing), missing

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """`[T, K]` for one sequence."""
        import torch

        with torch.no_grad():
            return self.model(torch.tensor(ids)[None].long())[0].numpy()

    def sweep(self, clean: np.ndarray, corrupt: np.ndarray, where: int, target: int) -> np.ndarray:
        """The change of a logit for every layer and position, as its own `patching` loops."""
        import torch

        first, last = (torch.tensor(ids)[None].long() for ids in (corrupt, clean))
        found = np.zeros((len(self.model.blocks), clean.size), np.float32)
        with torch.no_grad():
            names = [f"blocks.{number}.hook_resid_post" for number in range(len(found))]
            _, kept = self.model.run_with_cache(last, names_filter=names)
            before = self.model(first)[0, where, target]
            for number, name in enumerate(names):
                for position in range(clean.size):

                    def put(value: Any, hook: Any, name: str = name, position: int = position) -> Any:
                        value[:, position] = kept[name][:, position]
                        return value

                    logits = self.model.run_with_hooks(first, fwd_hooks=[(name, put)])
                    found[number, position] = logits[0, where, target] - before
        return found


def _state(params: Any, heads: int) -> dict[str, Any]:
    """Our weights by its names."""
    width = params["embed"].shape[1]
    state = {"embed.W_E": params["embed"], "pos_embed.W_pos": params["position"], "unembed.W_U": params["unembed"]}
    state |= {"unembed.b_U": np.zeros(params["unembed"].shape[1], np.float32)}
    state |= {"ln_final.w": params["end"], "ln_final.b": params["end_shift"]}
    for number, p in enumerate(params["blocks"]):
        at = f"blocks.{number}."
        for part in "qkv":
            state[f"{at}attn.W_{part.upper()}"] = np.asarray(p[part]).reshape(width, heads, -1).transpose(1, 0, 2)
            state[f"{at}attn.b_{part.upper()}"] = np.asarray(p[f"{part}_bias"]).reshape(heads, -1)
        state |= {f"{at}attn.W_O": np.asarray(p["o"]).reshape(heads, -1, width), f"{at}attn.b_O": p["o_bias"]}
        state |= {f"{at}mlp.W_in": p["up"], f"{at}mlp.b_in": p["up_bias"]}
        state |= {f"{at}mlp.W_out": p["down"], f"{at}mlp.b_out": p["down_bias"]}
        state |= {f"{at}ln1.w": p["first"], f"{at}ln1.b": p["first_shift"]}
        state |= {f"{at}ln2.w": p["second"], f"{at}ln2.b": p["second_shift"]}
    return state
