{% macro stream_table_doctor(fix=false) %}
  {#-
    Look at everything that could be wrong in the database: capture, buffers, state, the catalog, privileges, settings.
    Prints what is wrong and what to do; fails if anything is. `fix=true` mends what can be mended first.
  -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- if execute -%}
    {{ return(adapter.stream_table_doctor(fix=fix)) }}
  {%- endif -%}
{% endmacro %}

{% macro pgtrickle_doctor(fix=false) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ return(stream_table_doctor(fix=fix)) }}
{% endmacro %}
