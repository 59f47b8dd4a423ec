{#- What dbt dispatches to the adapter and what it does not know of stream tables. -#}

{% macro pgtrickle__alter_relation_comment(relation, comment) %}
  {%- set table = relation.incorporate(type='table') if relation.is_stream_table else relation -%}
  {{ return(postgres__alter_relation_comment(table, comment)) }}
{% endmacro %}

{% macro pgtrickle__get_drop_sql(relation) %}
  {%- if relation.is_stream_table -%}
    {%- do exceptions.raise_compiler_error(
          relation ~ " is a stream table: drop it with `dbt run-operation drop_stream_table` first.") -%}
  {%- endif -%}
  {{ return(default__get_drop_sql(relation)) }}
{% endmacro %}

{% macro pgtrickle__get_relation_last_modified(information_schema, relations) %}
  {{ return(adapter.stream_tables_last_modified(relations)) }}
{% endmacro %}
