# Raw files to prepared cache; the small manifest, written last, is the tracked file.
rule prepare:
    output:
        "cache/{cache}/manifest.json",
    params:
        options=lambda wildcards: PLAN.prepare_options(wildcards.cache),
    log:
        "results/logs/prepare/{cache}.log",
    message:
        "preparing {wildcards.cache}"
    shell:
        "mmlbench prepare {params.options} > {log} 2>&1"
