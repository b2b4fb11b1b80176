"""The audit: every algorithm at its own best, compared with those that are told the same.

Read in this order: ``contenders`` (who takes part, and with which knobs), ``plan`` (what is run,
and with how many tuning runs), ``trials`` (tuning on tuning seeds, evaluation on others),
``analysis`` (tables from saved results), ``verdicts``, ``figures``, ``page``, ``run``.
"""
