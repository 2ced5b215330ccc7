from csd_core.records.check import Alternative, CheckReport


def first_model_report(measured, *, queries_by_class=None, **figures):
    """The report of a first model, whose only way to serve has these figures."""
    alone = Alternative(
        strategy="none",
        share=None,
        possible=True,
        why_not=None,
        rows_embedded=0,
        rows_mapped=0,
        measured=measured,
        against_status_quo={},
        **figures,
    )
    return CheckReport(
        task="t1",
        split="gate",
        candidate="c" * 64,
        champion=None,
        pending=(),
        status_quo=None,
        cross_test=None,
        alternatives=(alone,),
        rehearsal=None,
        partial=None,
        adapter_methods={},
        during_backfill=(),
        best_own_gallery={},
        queries_by_class=queries_by_class,
    )
