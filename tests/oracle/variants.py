"""A random model of each architecture, and of each way in which the configurations of one may differ."""

from tests.oracle.llama import BF16, TinyLlama

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
"""For heads of 16: one pair turns as before, one is between, the others turn slower by the factor."""
LINEAR = {"rope_type": "linear", "factor": 4.0}

VARIANTS = {
    "llama": TinyLlama(kv_heads=2, seed=11),
    "llama, tied, BF16": TinyLlama(kv_heads=1, tied=True, dtype=BF16, seed=12),
    "llama, llama3 scaling": TinyLlama(kv_heads=2, rope_scaling=dict(LLAMA3), seed=13),
    "llama, linear scaling": TinyLlama(kv_heads=2, rope_scaling=dict(LINEAR), seed=14),
    "llama, own head_dim": TinyLlama(kv_heads=2, own_head_dim=32, seed=15),
    "llama, biases": TinyLlama(kv_heads=2, attention_bias=True, seed=16),
    "mistral": TinyLlama(architecture="mistral", kv_heads=2, rope_theta=1e6, seed=17),
    "mistral, own head_dim": TinyLlama(architecture="mistral", kv_heads=2, own_head_dim=24, seed=18),
    "qwen2": TinyLlama(architecture="qwen2", kv_heads=2, rope_theta=1e6, seed=19),
    "qwen2, tied": TinyLlama(architecture="qwen2", kv_heads=1, tied=True, seed=20),
    "qwen3": TinyLlama(architecture="qwen3", kv_heads=2, own_head_dim=32, rope_theta=1e6, seed=21),
    "qwen3, tied": TinyLlama(architecture="qwen3", kv_heads=2, own_head_dim=16, tied=True, seed=24),
    "qwen3, biases": TinyLlama(architecture="qwen3", kv_heads=1, own_head_dim=16, attention_bias=True, seed=23),
}
