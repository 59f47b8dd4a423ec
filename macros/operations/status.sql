{% macro stream_table_status(name, warn_seconds=300) %}
  {#-
    The state of one stream table as a mapping: status (not_found, paused, erroring, unpopulated, stale, healthy),
    staleness_seconds, consecutive_errors, last_refresh_at, is_populated, refresh_mode, schedule, reason ...

    name: a relation (`ref('model')`), or text: `schema.table` or a table of the target's schema.
  -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- if execute -%}
    {{ return(adapter.stream_table_status(name, warn_seconds=warn_seconds)) }}
  {%- endif -%}
{% endmacro %}

{% macro explain_stream_table(name, format='text', sql=false) %}
  {#-
    Print how a stream table is maintained: operators, rules, tables with their cost, missing indexes; as `text`,
    `mermaid` or `dot`. `sql=true` adds the statements per changed source.

    name: a relation (`ref('model')`), or text: `schema.table` or a table of the target's schema.
  -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- if execute -%}
    {%- set shown = adapter.explain_stream_table(name, format, sql) -%}
    {%- do log(shown, info=true) -%}
    {{ return(shown) }}
  {%- endif -%}
{% endmacro %}

{% macro check_freshness(model_name=none, warn_seconds=600, error_seconds=1800, schema=none, tag=none) %}
  {#-
    A gate for CI. Fails for stream tables that are missing, were never loaded, are suspended or erroring, or are older
    than `error_seconds`; warns of those older than `warn_seconds`.
  -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- if execute -%}
    {{ return(adapter.check_stream_table_freshness(
         graph, models=model_name, schema=schema, tag=tag, warn_seconds=warn_seconds, error_seconds=error_seconds)) }}
  {%- endif -%}
{% endmacro %}

{% macro pgtrickle_check_freshness(model_name=none, warn_seconds=600, error_seconds=1800) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ return(check_freshness(model_name=model_name, warn_seconds=warn_seconds, error_seconds=error_seconds)) }}
{% endmacro %}

{% macro pgtrickle_stream_table_status(name, warn_seconds=300) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ return(stream_table_status(name, warn_seconds=warn_seconds)) }}
{% endmacro %}

{% macro pgtrickle_stream_table_exists(name) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ return(stream_table_status(name).status != 'not_found') }}
{% endmacro %}

{% macro pgtrickle_get_stream_table_info(name) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- set state = stream_table_status(name) -%}
  {{ return(none if state.status == 'not_found' else state) }}
{% endmacro %}
