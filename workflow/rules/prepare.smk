# Raw files to prepared cache; the small manifest, written last, is the tracked file.
rule prepare:
    output:
        "cache/{cache}/manifest.json",
    log:
        "results/logs/prepare/{cache}.log",
    priority: lambda wildcards: PLAN.prepare_priority(wildcards.cache)
    params:
        options=lambda wildcards: PLAN.prepare_options(wildcards.cache),
    message:
        "preparing {wildcards.cache}"
    shell:
        "mmlbench prepare {params.options} > {log} 2>&1"
