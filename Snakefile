# The study of config/config.yaml:   snakemake --cores all results/all_tables.csv
# Another one:                       snakemake --cores all results/all_tables.csv --configfile config/quick.yaml
from mmlbench.study import workflow as study
from snakemake.utils import min_version

min_version("9.27")
study.check_file("config/config.yaml")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/prepare.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/report.smk"


localrules:
    all,
    tables,


rule all:
    default_target: True
    input:
        "results/all_tables.csv",
