# Raw files to prepared cache; the small manifest, written last, is the file that Snakemake watches. `unprepared()` keeps
# finished caches out of the wildcard: to Snakemake they are plain files, which no config makes anew.
rule prepare:
    input:
        shards=lambda wildcards: PLAN.shards(wildcards.cache),
    output:
        f"{PLAN.cache_pattern}/{{cache}}/manifest.json",
    log:
        "results/logs/prepare/{cache}.log",
    wildcard_constraints:
        cache=PLAN.unprepared(),
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
        f"{PLAN.cache_pattern}/{{cache}}.shards/{{shard}}/manifest.json",
    log:
        "results/logs/prepare/{cache}-{shard}.log",
    wildcard_constraints:
        shard=PLAN.unprepared_shards(),
    priority: lambda wildcards: PLAN.prepare_priority(wildcards.cache)
    params:
        options=lambda wildcards: PLAN.shard_options(wildcards),
    message:
        "preparing shard {wildcards.shard} of {wildcards.cache}"
    shell:
        "mmlbench prepare {params.options} --workers {threads} > {log} 2>&1"
