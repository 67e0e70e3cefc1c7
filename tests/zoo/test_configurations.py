"""What a `config.json` says that changes outputs is read or refused, never passed over."""

import pytest
import transformers
from published_examples import save_published, tensors_of

from biofm_jax.cli import main
from biofm_jax.errors import UserError
from biofm_jax.models.positions import Rotary
from biofm_jax.zoo.registry import FAMILIES, PUBLISHED

CLASSES = {
    "esm": "EsmConfig",
    "esmc": "EsmcConfig",
    "bert": "BertConfig",
    "roberta": "RobertaConfig",
    "megatron-bert": "MegatronBertConfig",
    "modernbert": "ModernBertConfig",
    "gpt2": "GPT2Config",
    "gptj": "GPTJConfig",
    "biogpt": "BioGptConfig",
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "t5": "T5Config",
}
# Fields that change no output of the language model: names of tokens, what only training, other
# tasks' heads or the library's own running of the model reads, and limits that rotary angles lack.
HARMLESS = {
    *("architectures", "model_type", "transformers_version", "dtype", "return_dict", "use_cache"),
    *("id2label", "label2id", "problem_type", "is_encoder_decoder", "chunk_size_feed_forward"),
    *("output_attentions", "output_hidden_states", "_name_or_path", "_attn_implementation"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "cls_token_id", "sep_token_id"),
    *("mask_token_id", "vocab_list", "esmfold_config", "max_position_embeddings", "n_positions"),
    *("classifier_dropout", "classifier_pooling", "initializer_cutoff_factor", "layerdrop"),
    *("activation_dropout", "mlp_dropout", "embedding_dropout", "attention_dropout", "embd_pdrop"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_factor"),
    *("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels"),
    "summary_first_dropout",
    *("sparse_prediction", "sparse_pred_ignore_index", "deterministic_flash_attn"),
    "reorder_and_upcast_attn",  # the same numbers, rounded elsewhere
    "pretraining_tp",  # products cut in pieces
}
OF_ONE_FAMILY = {
    "biogpt": {"layer_norm_eps"},  # which its reference does not read
    "t5": {"dense_act_fn", "is_gated_act"},  # made anew from feed_forward_proj
}


class Watched(dict):
    """A dict that knows which of its keys were asked for."""

    def __init__(self, *given):
        super().__init__(*given)
        self.asked = set()

    def __getitem__(self, key):
        self.asked.add(key)
        return super().__getitem__(key)

    def get(self, key, default=None):
        self.asked.add(key)
        return super().get(key, default)

    def __or__(self, other):
        return Watched(dict(self) | other)


@pytest.mark.parametrize("name", CLASSES)
def test_every_field_of_the_reference_is_read_or_known_to_be_harmless(name):
    options = {"vocab_size": 33, "mask_token_id": 32, "pad_token_id": 1} if name == "esm" else {}
    options |= {"pad_token_id": 1, "num_attention_heads": 12} if name == "roberta" else {}
    fields = getattr(transformers, CLASSES[name])(**options).to_dict()
    config = Watched(fields)
    FAMILIES[name].spec_of(config)
    left = config.keys() - config.asked - HARMLESS
    assert left == OF_ONE_FAMILY.get(name, set())


ROPE = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 2.0}


@pytest.mark.parametrize("family, field, value", [
    ("esm", "is_decoder", True),
    ("esm", "is_folding_model", True),
    ("esm", "position_embedding_type", "relative_key"),
    ("esm", "hidden_act", "relu"),
    ("bert", "position_embedding_type", "relative_key_query"),
    ("bert", "is_decoder", True),
    ("bert", "add_cross_attention", True),
    ("roberta", "pad_token_id", 0),
    ("megatron-bert", "position_embedding_type", "relative_key"),
    ("esmc", "num_key_value_heads", 3),
    ("esmc", "head_dim", 32),
    ("esmc", "attention_bias", True),
    ("esmc", "rope_parameters", ROPE),
    ("esmc", "rope_scaling", {"type": "linear", "factor": 2.0}),
    ("modernbert", "norm_bias", True),
    ("modernbert", "decoder_bias", False),
    ("modernbert", "rope_scaling", {"rope_type": "linear", "factor": 2.0}),
    ("modernbert", "rope_parameters", {"full_attention": ROPE}),
    ("modernbert", "layer_types", ["full_attention"] * 3),
    ("modernbert", "layer_types", ["full_attention", "chunked_attention"] * 11),
    ("gpt2", "scale_attn_weights", False),
    ("gpt2", "add_cross_attention", True),
    ("molgpt", "num_props", 2),
    ("molgpt", "scaffold", True),
    ("molgpt", "lstm", True),
    ("ethos", "bias", "final"),
    ("ethos", "n_inner", 100),
    ("ethos", "activation_function", "mish"),
    ("progen", "rotary_dim", None),
    ("progen", "n_head", 4),
    ("progen", "tie_word_embeddings", True),
    ("biogpt", "add_cross_attention", True),
    ("llama", "attention_bias", True),
    ("llama", "mlp_bias", True),
    ("llama", "rope_scaling", {"type": "linear", "factor": 2.0}),
    ("llama", "rope_scaling", {"type": "dynamic", "factor": 2.0}),
    ("llama", "rope_parameters", ROPE),
    ("llama", "partial_rotary_factor", 0.5),
    ("mistral", "rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
    ("t5", "is_decoder", True),
    ("t5", "tie_encoder_decoder", True),
    ("t5", "feed_forward_proj", "glu-relu"),
    ("t5_encoder", "feed_forward_proj", "mish"),
])  # fmt: skip
def test_another_meaning_is_refused(family, field, value):
    config = next(m.config for m in PUBLISHED.values() if m.family.name == family)
    FAMILIES[family].spec_of(config)
    with pytest.raises(UserError, match=r"config\.json"):
        FAMILIES[family].spec_of(config | {field: value})


def test_positions_that_count_from_another_padding_id_are_refused():
    with pytest.raises(UserError, match="pad_token_id is 0"):
        FAMILIES["esm"].spec_of(PUBLISHED["esm1b"].config | {"pad_token_id": 0})
    rotary = PUBLISHED["esm2_8m"].config | {"pad_token_id": 0}
    assert FAMILIES["esm"].spec_of(rotary) == PUBLISHED["esm2_8m"].spec


def test_windows_are_mistrals_alone():
    config = PUBLISHED["biomistral_7b"].config
    llama, mistral = FAMILIES["llama"].spec_of, FAMILIES["mistral"].spec_of
    assert llama(config).window is None
    assert mistral(config).window == 4095
    assert mistral(config | {"sliding_window": None}).window is None
    without = {name: value for name, value in config.items() if name != "sliding_window"}
    assert mistral(without).window == transformers.MistralConfig().sliding_window - 1


def test_progen2s_other_names():
    model = PUBLISHED["progen2_large"]
    names = {"n_embd": "embed_dim", "vocab_size": "vocab_size_emb"}
    config = {names.get(name, name): value for name, value in model.config.items()}
    assert model.family.spec_of(config | {"vocab_size_lm_head": 51200}) == model.spec


def test_biohubs_names_of_esm_cs_sizes():
    for name in ("esmc_300m", "esmc_600m", "esmc_6b"):
        model = PUBLISHED[name]
        sizes = {"hidden_size": "d_model", "num_hidden_layers": "n_layers",
                 "num_attention_heads": "n_heads"}  # fmt: skip
        config = {theirs: model.config[ours] for ours, theirs in sizes.items()}
        config |= {"vocab_size": 64, "mask_token_id": 32, "pad_token_id": 1}
        assert model.family.spec_of(config) == model.spec
        with pytest.raises(KeyError, match="n_heads"):
            model.family.spec_of({n: v for n, v in config.items() if n != "n_heads"})


def test_ethoss_two_configurations():
    config = PUBLISHED["ethos_mimic_iv"].config
    second = {"n_positions" if n == "block_size" else n: v for n, v in config.items()}
    second |= {"n_inner": None, "activation_function": "gelu", "resid_pdrop": second.pop("dropout")}
    assert FAMILIES["ethos"].spec_of(second) == PUBLISHED["ethos_mimic_iv"].spec


@pytest.mark.parametrize("said", [
    {"rope_theta": 5e5}, {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
])  # fmt: skip
@pytest.mark.parametrize("family", ["esmc", "llama", "mistral"])
def test_the_base_of_angles_is_read_in_both_forms(family, said):
    config = next(m.config for m in PUBLISHED.values() if m.family.name == family)
    assert FAMILIES[family].spec_of(config | said).positions == Rotary(base=5e5)


@pytest.mark.parametrize("missing", ["global_attn_every_n_layers", "local_rope_theta"])
def test_modernbert_says_which_field_is_missing(missing):
    config = dict(PUBLISHED["bioclinical_modernbert_base"].config)
    del config[missing]
    with pytest.raises(KeyError, match=missing):
        FAMILIES["modernbert"].spec_of(config)


@pytest.mark.parametrize("changes", [
    {"num_attention_heads": 0}, {"hidden_size": None}, {"max_position_embeddings": "20"},
    {"num_attention_heads": 3}, {"hidden_act": ["gelu"]}, {"intermediate_size": 24.5},
])  # fmt: skip
def test_nonsense_in_a_configuration_is_told(tmp_path, capsys, changes):
    folder = save_published(tmp_path / "bert", "bert", tensors_of("bert"), **changes)
    assert main(["import", "bert", str(folder), str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "config" in said or "TransformerSpec" in said
