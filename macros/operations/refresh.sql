{% macro refresh_all_stream_tables(schema=none, models=none, tag=none, full=false) %}
  {#-
    Refresh the project's stream tables in dependency order; fails if one of them fails or is missing.

    schema: only models built in this schema. models: only these (a name or a list). tag: only models with this tag.
    full: compute them again, applied as a difference.
  -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- if execute -%}
    {{ return(adapter.refresh_stream_tables(graph, models=models, schema=schema, tag=tag, full=full)) }}
  {%- endif -%}
{% endmacro %}

{% macro refresh_stream_table(model_name, schema=none, full=false) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {#- Refresh one model together with the stale stream tables that it reads. -#}
  {{ return(refresh_all_stream_tables(schema=schema, models=model_name, full=full)) }}
{% endmacro %}

{% macro pgtrickle_refresh(model_name, schema=none) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ return(refresh_stream_table(model_name, schema=schema)) }}
{% endmacro %}

{% macro pgtrickle_refresh_stream_table(name) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ return(refresh_stream_table(name)) }}
{% endmacro %}
