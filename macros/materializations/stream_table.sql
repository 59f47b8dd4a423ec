{#
  A model that keeps itself up to date. The engine creates, compares and alters on its own connection, between two
  transactions of dbt: hooks are not atomic with the build.

  `adapter='postgres'` also covers `type: pgtrickle`, whether these macros come from the package or with the adapter.
#}
{% materialization stream_table, adapter='postgres', supported_languages=['sql'] %}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}

  {%- set existing_relation = load_cached_relation(this) -%}
  {%- set target_relation = this.incorporate(type='stream_table') -%}
  {%- set partial_run = adapter.is_partial_run() -%}

  {#- ref() is rendered with a filter: such a query must never become the definition. -#}
  {%- if partial_run and not (existing_relation and existing_relation.is_stream_table) -%}
    {{ return(materialization_table_default()) }}
  {%- endif -%}
  {%- if partial_run -%}
    {%- do store_result('main', response=adapter.leave_stream_table(sql)) -%}
    {{ return({'relations': [existing_relation]}) }}
  {%- endif -%}

  {%- set request = adapter.stream_table_request(
        target_relation, existing_relation, model, sql, full_refresh=should_full_refresh()) -%}
  {%- set grant_config = config.get('grants') -%}
  {%- set stays = existing_relation is not none and existing_relation.is_stream_table -%}

  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}

  {%- if config.get('contract').enforced -%}
    {%- do get_assert_columns_equivalent(sql) -%}
  {%- endif -%}

  {#- What dbt's connection holds would block the engine: this commits it. -#}
  {{ write(sql) }}
  {%- do store_result('main', response=adapter.build_stream_table(request)) -%}

  {%- do apply_grants(target_relation, grant_config, should_revoke=stays) -%}
  {%- if adapter.docs_differ(
        target_relation, model, config.persist_relation_docs(), config.persist_column_docs()) -%}
    {%- do persist_docs(target_relation, model) -%}
  {%- endif -%}

  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {%- do adapter.end_transaction() -%}
  {{ run_hooks(post_hooks, inside_transaction=False) }}

  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}
