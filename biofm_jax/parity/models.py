"""Small models of every family by its reference implementation, two head widths each."""

from biofm_jax.parity.compared import Compared
from biofm_jax.parity.graph_comparisons import graph_comparisons
from biofm_jax.parity.references import MASK, PAD, VOCABULARY, Reference, randomised
from biofm_jax.parity.t5_models import t5_references
from biofm_jax.parity.unimol_measures import unimol_comparisons
from biofm_jax.parity.vision_models import vision_comparisons
from biofm_jax.parity.written_models import written_references
from biofm_jax.zoo.bert import BERT, MEGATRON, ROBERTA
from biofm_jax.zoo.biogpt import BIOGPT
from biofm_jax.zoo.esm import ESM
from biofm_jax.zoo.esmc import ESMC
from biofm_jax.zoo.family import Family
from biofm_jax.zoo.gpt2 import GPT2
from biofm_jax.zoo.gptj import GPTJ
from biofm_jax.zoo.llama import LLAMA, MISTRAL
from biofm_jax.zoo.modernbert import MODERNBERT

LAYERS, FEEDFORWARD, POSITIONS = 3, 88, 130
# Heads and width of the stream: heads of 16 and of 24.
SMALL, WIDE = (4, 64), (2, 48)


def _reference(family: Family, variant: str, model: str, config: str, **options) -> Reference:
    def build():
        import transformers

        made = getattr(transformers, config)(vocab_size=VOCABULARY, pad_token_id=PAD, **options)
        return randomised(getattr(transformers, model)(made))

    return Reference(family, variant, build)


def _sizes(heads: int, width: int) -> dict:
    """The fields of a size, as most configurations name them."""
    return dict(
        num_hidden_layers=LAYERS,
        hidden_size=width,
        num_attention_heads=heads,
        intermediate_size=FEEDFORWARD,
    )


def _gpt_sizes(heads: int, width: int) -> dict:
    """The fields of a size, as GPT-2 and GPT-J name them."""
    names = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
    return dict(
        n_layer=LAYERS, n_embd=width, n_head=heads, n_inner=FEEDFORWARD, n_positions=POSITIONS
    ) | dict.fromkeys(names, 0.0)


NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def _esm() -> list[Reference]:
    names = ("EsmForMaskedLM", "EsmConfig")
    shared = dict(mask_token_id=MASK, eos_token_id=2, layer_norm_eps=1e-5) | NO_DROPOUT
    rotary = dict(position_embedding_type="rotary", emb_layer_norm_before=False)
    learned = dict(position_embedding_type="absolute", max_position_embeddings=POSITIONS)
    return [
        _reference(ESM, "ESM-2, 4 heads of 16", *names, token_dropout=True,
                   **shared, **rotary, **_sizes(*SMALL)),
        _reference(ESM, "ESM-2, 2 heads of 24", *names, token_dropout=True,
                   **shared, **rotary, **_sizes(*WIDE)),
        _reference(ESM, "ESM-1b", *names, token_dropout=True, emb_layer_norm_before=True,
                   **shared, **learned, **_sizes(*SMALL)),
        _reference(ESM, "Nucleotide Transformer", *names, token_dropout=False,
                   emb_layer_norm_before=False, tie_word_embeddings=False,
                   **shared, **learned, **_sizes(*WIDE)),
    ]  # fmt: skip


def _bert_like() -> list[Reference]:
    found = []
    for size in (SMALL, WIDE):
        options = dict(max_position_embeddings=POSITIONS) | _sizes(*size) | NO_DROPOUT
        shape = f"{size[0]} heads of {size[1] // size[0]}"
        tied = size is SMALL
        found += [
            _reference(BERT, f"{shape}, relu" if tied else f"{shape}, untied head",
                       "BertForMaskedLM", "BertConfig", hidden_act="relu" if tied else "gelu",
                       tie_word_embeddings=tied, **options),
            _reference(MEGATRON, shape, "MegatronBertForMaskedLM", "MegatronBertConfig",
                       hidden_act="gelu_new", **options),
            _reference(ROBERTA, shape, "RobertaForMaskedLM", "RobertaConfig", type_vocab_size=1,
                       **options),
        ]  # fmt: skip
    return found


def _modern() -> list[Reference]:
    ids = dict(bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3)
    bases = {
        "full_attention": {"rope_type": "default", "rope_theta": 160_000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    found = []
    for size in (SMALL, WIDE):
        shape = f"{size[0]} heads of {size[1] // size[0]}"
        found += [
            _reference(ESMC, shape, "EsmcForMaskedLM", "EsmcConfig", **_sizes(*size)),
            _reference(MODERNBERT, shape, "ModernBertForMaskedLM", "ModernBertConfig",
                       local_attention=16, layer_types=kinds, rope_parameters=bases,
                       **ids, **_sizes(*size) | {"num_hidden_layers": len(kinds)}),
        ]  # fmt: skip
    return found


def _causal() -> list[Reference]:
    slowed = dict(rope_type="llama3", rope_theta=500_000.0, factor=8.0, low_freq_factor=1.0,
                  high_freq_factor=4.0, original_max_position_embeddings=16)  # fmt: skip
    found = []
    for size in (SMALL, WIDE):
        shape = f"{size[0]} heads of {size[1] // size[0]}"
        grouped = size is SMALL
        llama = dict(num_key_value_heads=size[0] // 2 if grouped else size[0]) | _sizes(*size)
        rope = {"rope_parameters": slowed} if grouped else {}
        found += [
            _reference(GPT2, shape if grouped else f"{shape}, scaled by depth",
                       "GPT2LMHeadModel", "GPT2Config",
                       scale_attn_by_inverse_layer_idx=not grouped, **_gpt_sizes(*size)),
            _reference(GPTJ, shape, "GPTJForCausalLM", "GPTJConfig", rotary_dim=8,
                       tie_word_embeddings=False, **_gpt_sizes(*size)),
            _reference(BIOGPT, shape, "BioGptForCausalLM", "BioGptConfig",
                       max_position_embeddings=POSITIONS, activation_dropout=0.0,
                       **NO_DROPOUT, **_sizes(*size)),
            _reference(LLAMA, f"{shape}, 2 of keys, Llama 3 angles" if grouped else shape,
                       "LlamaForCausalLM", "LlamaConfig", **rope, **llama),
            _reference(MISTRAL, f"{shape}, window 8", "MistralForCausalLM", "MistralConfig",
                       sliding_window=8, head_dim=size[1] // size[0], **llama),
        ]  # fmt: skip
    return found


def references() -> list[Reference | Compared]:
    """Every reference: of transformers, written out, and of PyTorch Geometric."""
    families = [*_esm(), *_bert_like(), *_modern(), *_causal(), *written_references()]
    more = [*t5_references(), *unimol_comparisons(), *graph_comparisons(), *vision_comparisons()]
    return [*families, *more]
