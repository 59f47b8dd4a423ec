{#- Macros of pg_trickle's own dbt package that have no counterpart here: each says what to use. -#}

{% macro pgtrickle_has_create_or_replace() %}
  {{ return(true) }}
{% endmacro %}

{% macro pgtrickle_create_stream_table() %}
  {%- do pgtrickle_use_instead('pgtrickle_create_stream_table', "a model with materialized='stream_table'", varargs, kwargs) -%}
{% endmacro %}

{% macro pgtrickle_create_or_replace_stream_table() %}
  {%- do pgtrickle_use_instead(
        'pgtrickle_create_or_replace_stream_table', "a model with materialized='stream_table'", varargs, kwargs) -%}
{% endmacro %}

{% macro pgtrickle_alter_stream_table() %}
  {%- do pgtrickle_use_instead('pgtrickle_alter_stream_table', "the model's configuration and `dbt run`", varargs, kwargs) -%}
{% endmacro %}

{% macro pgtrickle_check_cdc_health() %}
  {%- do pgtrickle_use_instead('pgtrickle_check_cdc_health', '`check_freshness`, or `stream_table_doctor`') -%}
{% endmacro %}

{% macro pgtrickle_operational_status() %}
  {%- do pgtrickle_use_instead('pgtrickle_operational_status', 'the command `pgtrickle status`') -%}
{% endmacro %}

{% macro pgtrickle_drain(timeout_s=60) %}
  {%- do pgtrickle_use_instead('pgtrickle_drain', 'SIGTERM for the runner: it finishes what it is doing and stops') -%}
{% endmacro %}

{% macro pgtrickle_enable_monitoring() %}
  {%- do pgtrickle_use_instead('pgtrickle_enable_monitoring', 'the view pgtrickle.pg_stat_stream_tables') -%}
{% endmacro %}

{% macro pgtrickle_use_instead(name, replacement) %}
  {%- if execute -%}
    {%- do exceptions.raise_compiler_error(name ~ " does not exist in dbt-pgtrickle: use " ~ replacement ~ ".") -%}
  {%- endif -%}
{% endmacro %}
