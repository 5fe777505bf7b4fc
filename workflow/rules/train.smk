# One job is one run. The output is a stamp named after the code's fingerprint, not run.json: Snakemake deletes
# declared outputs before it starts a job again, and a complete run or a checkpoint must survive that.
rule train:
    input:
        cache=lambda wildcards: ancient(PLAN.manifest(wildcards)),
        reused=lambda wildcards: [ancient(stamp) for stamp in PLAN.reused(wildcards)],
    output:
        "results/runs/{dataset}/{split}/{method}/{run}/done-{code}",
    log:
        "results/logs/train/{dataset}/{split}/{method}/{run}-{code}.log",
    priority: 10
    threads: lambda wildcards: PLAN.threads(wildcards)
    params:
        options=lambda wildcards: PLAN.train_options(wildcards),
    message:
        "training {wildcards.method} on {wildcards.dataset}/{wildcards.split}, {wildcards.run}"
    shell:
        "mmlbench train {params.options} > {log} 2>&1"
