{% macro drop_stream_table(name, cascade=false) %}
  {#- Drop one stream table by its name in the database (`schema.table`); `cascade` includes stream tables reading it. -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- if execute -%}
    {{ return(adapter.drop_stream_table(name, cascade=cascade)) }}
  {%- endif -%}
{% endmacro %}

{% macro drop_all_stream_tables(schema=none, models=none, cascade=false) %}
  {#- Drop the stream tables of the project's models, and nothing that other objects depend on. -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- if execute -%}
    {{ return(adapter.drop_stream_tables(graph, models=models, schema=schema, cascade=cascade)) }}
  {%- endif -%}
{% endmacro %}

{% macro drop_all_stream_tables_force() %}
  {#- Drop every stream table of the database, whichever project made it. -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- if execute -%}
    {{ return(adapter.drop_every_stream_table()) }}
  {%- endif -%}
{% endmacro %}

{% macro pgtrickle_drop_stream_table(name) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ return(drop_stream_table(name)) }}
{% endmacro %}

{% macro orphaned_stream_tables(schemas=none, dry_run=true) %}
  {#-
    List the stream tables that no model of this project builds any more, in the schemas it builds in (or in
    `schemas`). `dry_run=false` drops them.
  -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {%- if execute -%}
    {%- set built_in = [target.schema] -%}
    {%- for node in graph.nodes.values() if node.resource_type == 'model' -%}
      {%- do built_in.append(node.schema) -%}
    {%- endfor -%}
    {%- set names = adapter.orphaned_stream_tables(graph, schemas or (built_in | unique | list), drop=not dry_run) -%}
    {%- for name in names -%}
      {%- do log(("Would drop " if dry_run else "Dropped ") ~ name, info=true) -%}
    {%- endfor -%}
    {%- if not names -%}
      {%- do log("No stream table is orphaned.", info=true) -%}
    {%- endif -%}
    {{ return(names) }}
  {%- endif -%}
{% endmacro %}

{% macro pgtrickle_orphans(schemas=none, dry_run=true) %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ return(orphaned_stream_tables(schemas=schemas, dry_run=dry_run)) }}
{% endmacro %}
