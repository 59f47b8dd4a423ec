{#-
  Every macro that a user calls begins by asking for the adapter: without it there is no engine to call. Only the package
  can be used without the adapter, and a package's macros are found under its name.
-#}
{% macro pgtrickle_needs_adapter() %}
  {%- do exceptions.raise_compiler_error(
        "Stream tables need the adapter: set `type: pgtrickle` in your profile (the other keys stay as they are) "
        ~ "and install it with `pip install dbt-pgtrickle`. Declaring them with `type: " ~ adapter.type()
        ~ "` alone is not yet supported.") -%}
{% endmacro %}
