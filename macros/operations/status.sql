{% macro stream_table_status(name, warn_seconds=300) %}
  {#-
    The state of one stream table as a mapping: status (not_found, paused, erroring, unpopulated, stale, healthy),
    staleness_seconds, consecutive_errors, last_refresh_at, is_populated, refresh_mode, schedule, reason ...

    name: a relation (`ref('model')`), or text: `schema.table` or a table of the target's schema.
  -#}
  {%- do (dbt_pgtrickle or context).pgtrickle_require_adapter() -%}
  {%- if execute -%}
    {{ return(adapter.stream_table_status(name, warn_seconds=warn_seconds)) }}
  {%- endif -%}
{% endmacro %}

{% macro check_freshness(model_name=none, warn_seconds=600, error_seconds=1800, schema=none, tag=none) %}
  {#-
    A gate for CI. Fails for stream tables that are missing, were never loaded, are suspended or erroring, or are older
    than `error_seconds`; warns of those older than `warn_seconds`.
  -#}
  {%- do (dbt_pgtrickle or context).pgtrickle_require_adapter() -%}
  {%- if execute -%}
    {{ return(adapter.check_stream_table_freshness(
         graph, models=model_name, schema=schema, tag=tag, warn_seconds=warn_seconds, error_seconds=error_seconds)) }}
  {%- endif -%}
{% endmacro %}

{% macro pgtrickle_check_freshness(model_name=none, warn_seconds=600, error_seconds=1800) %}
  {{ return((dbt_pgtrickle or context).check_freshness(
       model_name=model_name, warn_seconds=warn_seconds, error_seconds=error_seconds)) }}
{% endmacro %}

{% macro pgtrickle_stream_table_status(name, warn_seconds=300) %}
  {{ return((dbt_pgtrickle or context).stream_table_status(name, warn_seconds=warn_seconds)) }}
{% endmacro %}

{% macro pgtrickle_stream_table_exists(name) %}
  {{ return((dbt_pgtrickle or context).stream_table_status(name).status != 'not_found') }}
{% endmacro %}

{% macro pgtrickle_get_stream_table_info(name) %}
  {%- set state = (dbt_pgtrickle or context).stream_table_status(name) -%}
  {{ return(none if state.status == 'not_found' else state) }}
{% endmacro %}
