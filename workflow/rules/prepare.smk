# Raw files to prepared cache; the small manifest, written last, is the tracked file.
rule prepare:
    input:
        shards=lambda wildcards: PLAN.shards(wildcards.cache),
    output:
        f"{PLAN.caches_folder}/{{cache}}/manifest.json",
    log:
        "results/logs/prepare/{cache}.log",
    priority: lambda wildcards: PLAN.prepare_priority(wildcards.cache)
    params:
        options=lambda wildcards: PLAN.prepare_options(wildcards.cache),
    message:
        "preparing {wildcards.cache}"
    shell:
        "mmlbench prepare {params.options} > {log} 2>&1"


# One of N parts of the raw files (`prepare_shards` of a config). `prepare` merges them, and removes them afterwards.
rule prepare_shard:
    output:
        f"{PLAN.caches_folder}/{{cache}}.shards/{{number}}-of-{{of}}/manifest.json",
    log:
        "results/logs/prepare/{cache}-{number}-of-{of}.log",
    priority: lambda wildcards: PLAN.prepare_priority(wildcards.cache)
    params:
        options=lambda wildcards: PLAN.shard_options(wildcards),
    message:
        "preparing shard {wildcards.number} of {wildcards.of} of {wildcards.cache}"
    shell:
        "mmlbench prepare {params.options} --workers {threads} > {log} 2>&1"
