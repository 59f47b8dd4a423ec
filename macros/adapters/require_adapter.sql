{% macro pgtrickle_require_adapter() %}
  {#-
    Every entry point asks this first: without the adapter there is no engine to call. Macros of this project call each
    other through `(dbt_pgtrickle or context)`: a package's macros are found under its name only, the adapter's own
    only without one.
  -#}
  {%- if adapter.type() != 'pgtrickle' -%}
    {%- do exceptions.raise_compiler_error(
          "Stream tables need the adapter: set `type: pgtrickle` in your profile (the other keys stay as they are) "
          ~ "and install it with `pip install dbt-pgtrickle`. Declaring them with `type: " ~ adapter.type()
          ~ "` alone is not yet supported.") -%}
  {%- endif -%}
  {%- do adapter.require_macro_version(1) -%}
{% endmacro %}
