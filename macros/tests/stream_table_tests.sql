{#- Generic tests. Each fails for a name that is not registered. -#}

{% test stream_table_healthy(model, warn_seconds=none) %}
  {#- Active, populated, without errors, and not older than its schedule allows, or than `warn_seconds`. -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ adapter.stream_table_probe('healthy', model, flags.WHICH, warn_seconds=warn_seconds) }}
{% endtest %}

{% test stream_table_status(model, status='ACTIVE', populated=true, max_staleness_seconds=none) %}
  {#- Exactly this state. `populated=none` accepts both. -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ adapter.stream_table_probe('status', model, flags.WHICH,
       status=status, populated=populated, max_staleness_seconds=max_staleness_seconds) }}
{% endtest %}

{% test stream_table_matches_query(model) %}
  {#- Its content, brought up to date in a transaction that is rolled back, equals its query. -#}
  {%- do adapter.require_macro_version(1) if adapter.type() == 'pgtrickle' else dbt_pgtrickle.pgtrickle_needs_adapter() -%}
  {{ adapter.stream_table_probe('matches_query', model, flags.WHICH) }}
{% endtest %}
