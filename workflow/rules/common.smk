# Reads the config and plans the runs; nothing here decides anything (see mmlbench/study/workflow.py), and no torch.
study.own_folders(".snakemake", ".snakemake/locks", ".snakemake/metadata", "results")
study.free_stale_lock(".snakemake")
study.reread(config, workflow)
PLAN = study.read(config, "results", workflow.configfiles)


wildcard_constraints:
    cache=r"[a-z0-9_]+-[0-9a-f]{10}",
    dataset=r"[a-z0-9_]+",
    split=r"[A-Za-z0-9_.-]+",
    method=r"[a-z0-9_]+",
    run=r"s\d+-[0-9a-f]{10}",
    stamp=r"[0-9a-f]{10}",
    tuned=r"s\d+-[0-9a-f]{10}-[0-9a-f]{6}",
