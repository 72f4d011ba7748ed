"""Helpers of the fine-tuning course. The public names, loaded when they are first used."""

import importlib

_WHERE = {
    "profiles": ("select",),
    "tasks": ("load_task",),
    "data": ("Examples", "Task", "TokenizedTexts", "causal_labels", "tokenize", "tokenize_texts"),
    "models": ("copy_of", "load_image_model", "load_language_model", "load_span_finder",
               "load_tagger", "load_text_model"),
    "lora": ("adapter_state", "add_lora", "load_adapter", "merge_lora"),
    "stage": ("count_weights", "freeze", "run_stages", "set_mode", "stages", "train_from",
               "unfreeze"),
    "train": ("evaluate", "fit", "score"),
    "features": ("embed", "embed_stages"),
    "history": ("Evaluation", "History"),
    "device": ("choose_compute", "seed_everything", "stopwatch"),
    "metrics": ("accuracy", "bootstrap_accuracy", "confusion_matrix", "macro_f1", "spread"),
    "claims": ("claim",),
    "questions": ("check", "predict", "quiz"),
    "learner": ("show_progress",),
    "plotting": ("describe", "new_axes", "plot_bars", "plot_confusion", "plot_history",
                 "plot_images", "plot_lines", "show_table"),
}  # fmt: skip
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}
__all__ = sorted([*_MODULE_OF, "recipes"])


def __getattr__(name: str):
    if name == "recipes":
        return importlib.import_module("course_utils.recipes")
    if name not in _MODULE_OF:
        raise AttributeError(f"course_utils has no {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"course_utils.{_MODULE_OF[name]}"), name)
