# One job is one run. The output is a stamp named after the code of method and dataset, not run.json: Snakemake deletes
# declared outputs before it starts a job again, and a complete run or a checkpoint must survive that. Where the cache
# or a reused run was made anew the job starts, and `mmlbench train` decides: unless the data differ it ends at once.
rule train:
    input:
        cache=lambda wildcards: PLAN.manifest(wildcards),
        reused=lambda wildcards: PLAN.reused(wildcards),
    output:
        "results/runs/{dataset}/{split}/{method}/{run}/done-{stamp}",
    log:
        "results/logs/train/{dataset}/{split}/{method}/{run}-{stamp}.log",
    priority: lambda wildcards: PLAN.priority(wildcards)
    threads: lambda wildcards: PLAN.threads(wildcards)
    params:
        options=lambda wildcards: PLAN.train_options(wildcards),
    message:
        "training {wildcards.method} on {wildcards.dataset}/{wildcards.split}, {wildcards.run}"
    shell:
        "mmlbench train {params.options} >> {log} 2>&1"


# Chooses among the trials, which are ordinary runs, by their validation part, and makes the run of what was chosen.
rule train_tuned:
    input:
        trials=lambda wildcards: PLAN.trials(wildcards),
    output:
        "results/tuned/{dataset}/{split}/{method}/{tuned}",
    log:
        "results/logs/tuned/{dataset}/{split}/{method}/{tuned}.log",
    priority: lambda wildcards: PLAN.tuned_priority(wildcards)
    params:
        options=lambda wildcards: PLAN.tuned_options(wildcards),
    message:
        "training {wildcards.method} on {wildcards.dataset}/{wildcards.split} as tuned, {wildcards.tuned}"
    shell:
        "mmlbench train {params.options} >> {log} 2>&1"


# Test logits under noise, from the weights that a run has stored; only where the config has `robustness:`.
rule robustness:
    input:
        run=lambda wildcards: PLAN.noise_run(wildcards),
    output:
        "results/robustness/{dataset}/{split}/{method}/{run}.npz",
    log:
        "results/logs/robustness/{dataset}/{split}/{method}/{run}.log",
    params:
        options=lambda wildcards: PLAN.noise_options(wildcards),
    message:
        "testing {wildcards.method} on {wildcards.dataset}/{wildcards.split}, {wildcards.run}, under noise"
    shell:
        "mmlbench robustness {params.options} >> {log} 2>&1"
