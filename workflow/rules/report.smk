# Stored predictions to tables, leaderboard and figures; imports no torch.
rule tables:
    input:
        plan="results/plan.json",
        runs=PLAN.stamps(),
        noise=PLAN.noise_files(),
        groups=PLAN.groups(),
    # The menu of Snakemake's report is in the order of the alphabet: the leaderboard comes first.
    output:
        report("results/all_tables.csv", category="Tables", caption="../report/all_tables.rst"),
        report("results/leaderboard.html", category="Leaderboard", caption="../report/leaderboard.rst"),
        report("results/figures/overview.png", category="Plots", caption="../report/overview.rst"),
        report("results/answer.html", category="Tables", caption="../report/answer.rst"),
        report("results/tables/accuracy.csv", category="Tables", caption="../report/accuracy.rst"),
        report("results/tables/competition_gap.csv", category="Tables", caption="../report/competition_gap.rst"),
        report("results/tables/measures.csv", category="Tables", caption="../report/measures.rst"),
        report("results/tables/reliance.csv", category="Tables", caption="../report/reliance.rst"),
        report("results/tables/robustness.csv", category="Tables", caption="../report/robustness.rst"),
        report("results/tables/overall.csv", category="Tables", caption="../report/overall.rst"),
        report("results/cost.csv", category="Tables", caption="../report/cost.rst"),
        "results/leaderboard.md",
    log:
        "results/logs/tables.log",
    params:
        options=f"--expect {PLAN.key}",
    message:
        "making tables, leaderboard and figures"
    shell:
        "mmlbench tables {params.options} > {log} 2>&1"


# Runs made, time left for the whole study, and the first table: of a dataset that is complete, or two seeds of it.
onstart:
    PLAN.watch()
    if workflow.local_exec:
        PLAN.serve()


# Where a run failed the tables are not even begun, so what they would name is named here.
onerror:
    PLAN.name_missing()
