"""What `python -m mnemonics_tf.learn` says in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnemonics_tf.learner.answers import Learned
    from mnemonics_tf.learner.learner import IncrementalLearner

_MOST_ROWS = 40


def report_of(learner: IncrementalLearner, learned: Learned | None) -> list[str]:
    """What a learner can do now and what it may have forgotten, in lines.

    Args:
      learner: the learner.
      learned: what it learned just now; None for nothing.
    """
    names = learner.class_names
    lines = [f"knows       {len(names)} classes: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"]
    if learned is None or learned.after is None:
        last = next((each for each in reversed(learner.history) if each is not None), None)
        return [*lines, f"accuracy    {last or 'nothing was held out to measure it by'}"]
    after, before, forgotten = learned.after, learned.before, learned.forgotten
    lines.append(f"learned     {sum(learned.num_images.values()):,} images in {learned.seconds:.0f} s")
    lines.append(f"accuracy    {after.accuracy:.1f} % of {after.num_images} held-out images")
    if before is not None:
        known = learned.known_now
        lines.append(f"            of classes known before: {before.accuracy:.1f} % then, {known:.1f} % now")
    width = max(len(name) for name in after.by_class)
    lines.append(f"            {'class':{width}}  before     now")
    for name, now in list(after.by_class.items())[:_MOST_ROWS]:
        was = f"{before.by_class[name]:6.1f}" if before is not None and name in before.by_class else "   new"
        lines.append(f"            {name:{width}}  {was}  {now:6.1f}")
    if len(after.by_class) > _MOST_ROWS:
        lines.append(f"            and {len(after.by_class) - _MOST_ROWS} more")
    shown = [f"{name} ({was:.0f} -> {now:.0f} %)" for name, (was, now) in forgotten.items()]
    lines.append(f"forgotten   {', '.join(shown) or 'nothing that the held-out images show'}")
    return [*lines, f"memory      {learner.memory}"]
